// The merges of BPE: which two ids become which, and in which order. Private to data/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace switchyard {

struct PairMerge {
  int32_t rank = kNone;  // lower ones come first
  int32_t id = 0;        // of the result

  static constexpr int32_t kNone = INT32_MAX;
  bool exists() const { return rank != kNone; }
};

// A hash table with open addressing: it is asked for every two neighbours of every new word.
class PairMerges {
 public:
  explicit PairMerges(size_t count) {
    size_t size = 16;
    while (size < 2 * count) size *= 2;
    entries_.resize(size);
  }

  // A pair that is there gets the new merge. At most the `count` of the constructor.
  void set(int32_t left, int32_t right, PairMerge merge) {
    Entry& entry = entries_[slot(key(left, right))];
    entry = {key(left, right), merge};
  }

  PairMerge find(int32_t left, int32_t right) const { return entries_[slot(key(left, right))].merge; }

 private:
  static constexpr uint64_t kFree = UINT64_MAX;
  struct Entry {
    uint64_t key = kFree;
    PairMerge merge;
  };

  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot(uint64_t key) const {
    size_t place = static_cast<size_t>((key * 0x9E3779B97F4A7C15) >> 20) & (entries_.size() - 1);
    while (entries_[place].key != key && entries_[place].key != kFree) place = (place + 1) & (entries_.size() - 1);
    return place;
  }

  std::vector<Entry> entries_;
};

// Merges neighbours of `ids`, the lowest rank first and of equal ones the leftmost, until no two merge.
void merge_pairs(const PairMerges& merges, std::vector<int32_t>& ids);

}  // namespace switchyard
