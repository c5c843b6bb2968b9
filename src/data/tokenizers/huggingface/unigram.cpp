#include <algorithm>
#include <limits>
#include <optional>

#include "base/errors.h"
#include "base/utf8.h"
#include "data/piece_cache.h"
#include "data/tokenizers/huggingface/byte_trie.h"
#include "data/tokenizers/huggingface/model.h"

namespace switchyard {
namespace {

constexpr double kUnknownPenalty = 10;  // SentencePiece's: below the least likely piece

// Kudo 2018, "Subword Regularization": of all ways to write a text in pieces the most likely one, found by Viterbi's
// algorithm over the places where pieces end.
class UnigramModel : public TokenModel {
 public:
  UnigramModel(Vocabulary vocabulary, std::vector<double> scores, std::optional<int32_t> unknown, bool byte_fallback)
      : vocabulary_(std::move(vocabulary)),
        scores_(std::move(scores)),
        byte_ids_(byte_token_ids(vocabulary_)),
        unknown_(unknown),
        byte_fallback_(byte_fallback) {
    double least = std::numeric_limits<double>::infinity();
    for (const double score : scores_) least = std::min(least, score);
    unknown_score_ = least - kUnknownPenalty;
    for (const std::string& token : vocabulary_.tokens()) {
      if (!token.empty()) trie_.insert(token, vocabulary_.find(token));
    }
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void append(std::string_view piece, std::vector<int32_t>& ids) const override {
    if (cache_.append(piece, ids)) return;
    std::vector<int32_t> found;
    append_best(piece, found);
    ids.insert(ids.end(), found.begin(), found.end());
    cache_.remember(piece, std::move(found));
  }

 private:
  // The best way to a place: its score, and the last piece of it.
  struct Step {
    double score = 0;
    size_t begin = kNowhere;
    int32_t id = 0;
  };
  static constexpr size_t kNowhere = SIZE_MAX;

  std::vector<Step> best_steps(std::string_view text) const {
    std::vector<Step> steps(text.size() + 1);
    for (size_t begin = 0; begin < text.size();) {
      const double before = steps[begin].score;
      const auto offer = [&](size_t length, int32_t id, double score) {
        Step& step = steps[begin + length];
        if (step.begin == kNowhere || score + before > step.score) step = {score + before, begin, id};
      };
      const auto character = static_cast<size_t>(read_utf8(text, begin).length);
      bool known = false;
      trie_.find_prefixes(text.substr(begin), [&](size_t length, int32_t id) {
        offer(length, id, scores_[static_cast<size_t>(id)]);
        known = known || length == character;
      });
      if (!known) {
        if (!unknown_) throw DataError("a text has a character that the tokenizer lacks, and its model has no unk_id");
        offer(character, *unknown_, unknown_score_);
      }
      begin += character;
    }
    return steps;
  }

  // Unknown pieces in a row become one.
  void append_best(std::string_view text, std::vector<int32_t>& ids) const {
    const std::vector<Step> steps = best_steps(text);
    std::vector<std::string_view> pieces;
    size_t unknown_end = 0;  // of a row of unknown pieces; 0: there is none
    for (size_t end = text.size(); end > 0; end = steps[end].begin) {
      const bool unknown = unknown_ && steps[end].id == *unknown_;
      if (!unknown && unknown_end != 0) {
        pieces.push_back(text.substr(end, unknown_end - end));
        unknown_end = 0;
      }
      if (!unknown) pieces.push_back(text.substr(steps[end].begin, end - steps[end].begin));
      if (unknown && unknown_end == 0) unknown_end = end;
    }
    if (unknown_end != 0) pieces.push_back(text.substr(0, unknown_end));
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) append_piece(*piece, ids);
  }

  void append_piece(std::string_view piece, std::vector<int32_t>& ids) const {
    const int32_t id = vocabulary_.find(piece);
    if (id != Vocabulary::kNone) {
      ids.push_back(id);
    } else if (!byte_fallback_ || !append_byte_tokens(byte_ids_, piece, ids)) {
      ids.push_back(*unknown_);
    }
  }

  Vocabulary vocabulary_;
  std::vector<double> scores_;
  std::vector<int32_t> byte_ids_;
  std::optional<int32_t> unknown_;
  bool byte_fallback_;
  double unknown_score_ = 0;
  ByteTrie trie_;
  mutable PieceCache cache_;
};

}  // namespace

std::unique_ptr<TokenModel> read_unigram(const JsonPart& part) {
  Vocabulary vocabulary;
  std::vector<double> scores;
  for (const JsonPart& item : part.at("vocab").items()) {
    const std::vector<JsonPart> fields = item.items();
    if (fields.size() != 2) item.fail("must be a token and its score");
    vocabulary.add(fields[0].text(), static_cast<int64_t>(scores.size()), item);
    scores.push_back(fields[1].number());
  }
  std::optional<int32_t> unknown;
  if (const auto id = part.find("unk_id")) {
    unknown = static_cast<int32_t>(id->whole_number(0, static_cast<int64_t>(scores.size()) - 1));
  }
  return std::make_unique<UnigramModel>(std::move(vocabulary), std::move(scores), unknown,
                                        part.flag_or("byte_fallback", false));
}

}  // namespace switchyard
