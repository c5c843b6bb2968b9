// The tokens of a model, by their text and by their id. Private to data/.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizers/huggingface/json_part.h"

namespace switchyard {

class Vocabulary {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int64_t kMostIds = int64_t{1} << 22;
  static constexpr size_t kLongestToken = 4096;

  // From an object of ids by token. Throws DataError.
  static Vocabulary read(const JsonPart& part);

  // A token that is there gets the new id. `place` is for messages.
  void add(const std::string& token, int64_t id, const JsonPart& place);

  int32_t find(std::string_view token) const;  // its id, or kNone
  size_t size() const { return ids_.size(); }
  const std::vector<std::string>& tokens() const { return tokens_; }  // by id; "" where an id has none

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  std::vector<std::string> tokens_;
};

// The id of "<0x00>" to "<0xFF>" for each byte; kNone where there is none.
std::vector<int32_t> byte_token_ids(const Vocabulary& vocabulary);

// Appends those of `bytes`, if each byte has one. Returns whether.
bool append_byte_tokens(const std::vector<int32_t>& byte_ids, std::string_view bytes, std::vector<int32_t>& ids);

}  // namespace switchyard
