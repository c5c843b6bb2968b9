// The "added_tokens" of tokenizer.json: texts that are found before any model sees them. Private to data/.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "data/tokenizers/huggingface/byte_trie.h"
#include "data/tokenizers/huggingface/normalizer.h"
#include "data/tokenizers/huggingface/vocabulary.h"

namespace switchyard {

// A stretch of a text that is an added token, or (kNone) lies between them.
struct AddedStretch {
  size_t begin = 0;
  size_t end = 0;
  int32_t id = Vocabulary::kNone;
};

class AddedTokens {
 public:
  // A token of the model has its id there, whatever the file says; the others get those behind the model's, in order.
  AddedTokens(const std::vector<JsonPart>& items, const Vocabulary& vocabulary, const Normalizer& normalizer);

  // Those to be found in a text as it is, and those for a text that the normalizer has seen.
  std::vector<AddedStretch> find_plain(std::string_view text) const { return find(plain_, text); }
  std::vector<AddedStretch> find_normalized(std::string_view text) const { return find(normalized_, text); }

  int32_t id_of(const std::string& content) const;  // or kNone
  const std::string* content_of(int32_t id) const;  // as the file has it, or null
  bool is_special(const std::string& content) const { return specials_.contains(content); }
  // What a decoder sees of each.
  const std::unordered_map<int32_t, std::string>& texts() const { return texts_; }

 private:
  struct Token {
    bool single_word = false;
    bool left_spaces = false;   // takes the white space before it
    bool right_spaces = false;  // and after it
  };

  void add(const JsonPart& part, const Vocabulary& vocabulary, const Normalizer& normalizer, int32_t& next_id);
  std::vector<AddedStretch> find(const ByteTrie& trie, std::string_view text) const;

  ByteTrie plain_;
  ByteTrie normalized_;
  std::unordered_map<int32_t, Token> tokens_;
  std::unordered_map<int32_t, std::string> texts_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_set<std::string> specials_;
};

}  // namespace switchyard
