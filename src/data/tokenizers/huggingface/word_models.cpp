#include "base/errors.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/piece_cache.h"
#include "data/tokenizers/huggingface/byte_trie.h"
#include "data/tokenizers/huggingface/model.h"

namespace switchyard {
namespace {

int32_t unknown_id(const Vocabulary& vocabulary, const std::string& token, std::string_view piece) {
  const int32_t id = vocabulary.find(token);
  if (id != Vocabulary::kNone) return id;
  throw DataError("a text has " + in_quotes(piece) + ", which the tokenizer lacks, and so it does its unk_token " +
                  in_quotes(token));
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); i += static_cast<size_t>(read_utf8(text, i).length)) ++count;
  return count;
}

// Wu et al. 2016, section 4.1, as BERT has it: from the front of a word again and again the longest token; a word that
// can't be written so is unknown as a whole.
class WordPieceModel : public TokenModel {
 public:
  WordPieceModel(Vocabulary vocabulary, std::string unknown, const std::string& prefix, size_t longest_word)
      : vocabulary_(std::move(vocabulary)), unknown_(std::move(unknown)), longest_word_(longest_word) {
    for (const std::string& token : vocabulary_.tokens()) {
      const int32_t id = vocabulary_.find(token);
      if (!token.empty()) first_.insert(token, id);
      if (token.starts_with(prefix) && token.size() > prefix.size()) {
        further_.insert(std::string_view(token).substr(prefix.size()), id);
      }
    }
  }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void append(std::string_view piece, std::vector<int32_t>& ids) const override {
    if (cache_.append(piece, ids)) return;
    std::vector<int32_t> found;
    if (count_characters(piece) > longest_word_ || !append_longest(piece, found)) {
      found = {unknown_id(vocabulary_, unknown_, piece)};
    }
    ids.insert(ids.end(), found.begin(), found.end());
    cache_.remember(piece, std::move(found));
  }

 private:
  bool append_longest(std::string_view word, std::vector<int32_t>& ids) const {
    for (size_t begin = 0; begin < word.size();) {
      size_t longest = 0;
      int32_t longest_id = 0;
      (begin == 0 ? first_ : further_).find_prefixes(word.substr(begin), [&](size_t length, int32_t id) {
        longest = length;
        longest_id = id;
      });
      if (longest == 0) return false;
      ids.push_back(longest_id);
      begin += longest;
    }
    return true;
  }

  Vocabulary vocabulary_;
  std::string unknown_;
  size_t longest_word_;  // in characters
  ByteTrie first_;
  ByteTrie further_;  // without their prefix
  mutable PieceCache cache_;
};

class WordLevelModel : public TokenModel {
 public:
  WordLevelModel(Vocabulary vocabulary, std::string unknown)
      : vocabulary_(std::move(vocabulary)), unknown_(std::move(unknown)) {}

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void append(std::string_view piece, std::vector<int32_t>& ids) const override {
    const int32_t id = vocabulary_.find(piece);
    ids.push_back(id != Vocabulary::kNone ? id : unknown_id(vocabulary_, unknown_, piece));
  }

 private:
  Vocabulary vocabulary_;
  std::string unknown_;
};

}  // namespace

std::unique_ptr<TokenModel> read_word_piece(const JsonPart& part) {
  const auto longest = part.find("max_input_chars_per_word");
  return std::make_unique<WordPieceModel>(Vocabulary::read(part.at("vocab")), part.text_or("unk_token", "[UNK]"),
                                          part.text_or("continuing_subword_prefix", "##"),
                                          longest ? static_cast<size_t>(longest->whole_number(0, INT32_MAX)) : 100);
}

std::unique_ptr<TokenModel> read_word_level(const JsonPart& part) {
  return std::make_unique<WordLevelModel>(Vocabulary::read(part.at("vocab")), part.text_or("unk_token", "<unk>"));
}

}  // namespace switchyard
