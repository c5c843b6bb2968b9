#include "data/tokenizers/huggingface/pair_merges.h"

#include <cstddef>
#include <functional>
#include <queue>

namespace switchyard {
namespace {

constexpr size_t kFewIds = 48;

// Looks through all neighbours for each merge: quick for a word, quadratic.
void merge_few(const PairMerges& merges, std::vector<int32_t>& ids) {
  thread_local std::vector<PairMerge> found;  // of ids[i] and ids[i + 1]
  found.clear();
  for (size_t i = 0; i + 1 < ids.size(); ++i) found.push_back(merges.find(ids[i], ids[i + 1]));
  while (!found.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < found.size(); ++i) best = found[i].rank < found[best].rank ? i : best;
    if (!found[best].exists()) return;
    ids[best] = found[best].id;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
    found.erase(found.begin() + static_cast<ptrdiff_t>(best));
    if (best > 0) found[best - 1] = merges.find(ids[best - 1], ids[best]);
    if (best < found.size()) found[best] = merges.find(ids[best], ids[best + 1]);
  }
}

struct Symbol {
  int32_t id = 0;
  size_t before = 0;  // kNowhere: none
  size_t after = 0;
  bool gone = false;  // merged into the one before
};
constexpr size_t kNowhere = SIZE_MAX;

struct Candidate {
  int32_t rank = 0;
  size_t place = 0;
  int32_t id = 0;

  bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : place > other.place; }
};

class LongMerge {
 public:
  LongMerge(const PairMerges& merges, const std::vector<int32_t>& ids) : merges_(merges) {
    for (size_t i = 0; i < ids.size(); ++i) {
      symbols_.push_back({ids[i], i == 0 ? kNowhere : i - 1, i + 1 == ids.size() ? kNowhere : i + 1});
    }
    for (size_t i = 0; i < ids.size(); ++i) propose(i);
  }

  void run() {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      if (fits(best)) apply(best);
    }
  }

  void take(std::vector<int32_t>& ids) const {
    ids.clear();
    for (const Symbol& symbol : symbols_) {
      if (!symbol.gone) ids.push_back(symbol.id);
    }
  }

 private:
  void propose(size_t place) {
    if (place == kNowhere || symbols_[place].after == kNowhere) return;
    const PairMerge merge = merges_.find(symbols_[place].id, symbols_[symbols_[place].after].id);
    if (merge.exists()) candidates_.push({merge.rank, place, merge.id});
  }

  // Whether what was proposed is still there.
  bool fits(const Candidate& candidate) const {
    const Symbol& symbol = symbols_[candidate.place];
    if (symbol.gone || symbol.after == kNowhere) return false;
    const PairMerge merge = merges_.find(symbol.id, symbols_[symbol.after].id);
    return merge.exists() && merge.id == candidate.id;
  }

  void apply(const Candidate& candidate) {
    Symbol& left = symbols_[candidate.place];
    Symbol& right = symbols_[left.after];
    left.id = candidate.id;
    right.gone = true;
    left.after = right.after;
    if (left.after != kNowhere) symbols_[left.after].before = candidate.place;
    propose(left.before);
    propose(candidate.place);
  }

  const PairMerges& merges_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates_;
};

}  // namespace

void merge_pairs(const PairMerges& merges, std::vector<int32_t>& ids) {
  if (ids.size() <= kFewIds) return merge_few(merges, ids);
  LongMerge all(merges, ids);
  all.run();
  all.take(ids);
}

}  // namespace switchyard
