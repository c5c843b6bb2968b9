#include "data/tokenizers/huggingface/vocabulary.h"

#include <algorithm>

#include "base/text.h"

namespace switchyard {

Vocabulary Vocabulary::read(const JsonPart& part) {
  if (!part.json().is_object()) part.fail("must be an object of ids by token");
  Vocabulary vocabulary;
  for (const auto& [token, id] : part.json().items()) {
    const JsonPart place(id, part.place() + "[" + in_quotes(token) + "]");
    vocabulary.add(token, place.whole_number(0, kMostIds - 1), place);
  }
  return vocabulary;
}

void Vocabulary::add(const std::string& token, int64_t id, const JsonPart& place) {
  if (token.size() > kLongestToken) {
    place.fail("a token has " + std::to_string(token.size()) + " bytes, at most " + std::to_string(kLongestToken) +
               " are read");
  }
  if (id >= kMostIds) place.fail("there are more than " + std::to_string(kMostIds) + " ids");
  ids_.insert_or_assign(token, static_cast<int32_t>(id));
  const auto index = static_cast<size_t>(id);
  if (index >= tokens_.size()) tokens_.resize(index + 1);
  tokens_[index] = token;
}

int32_t Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? kNone : found->second;
}

std::vector<int32_t> byte_token_ids(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) ids.push_back(vocabulary.find(formatted("<0x%02X>", byte)));
  return ids;
}

bool append_byte_tokens(const std::vector<int32_t>& byte_ids, std::string_view bytes, std::vector<int32_t>& ids) {
  const size_t before = ids.size();
  for (const char byte : bytes) ids.push_back(byte_ids[static_cast<unsigned char>(byte)]);
  const auto added = ids.begin() + static_cast<ptrdiff_t>(before);
  if (std::find(added, ids.end(), Vocabulary::kNone) == ids.end()) return true;
  ids.resize(before);
  return false;
}

}  // namespace switchyard
