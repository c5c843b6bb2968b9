#include "data/char_tokenizer.h"

#include "base/errors.h"
#include "base/json.h"
#include "base/utf8.h"

namespace switchyard {
namespace {

class CharTokenizer : public Tokenizer {
 public:
  explicit CharTokenizer(std::vector<uint32_t> characters)
      : characters_(std::move(characters)), ids_(characters_.back() + 1, unknown()) {
    for (size_t id = 0; id < characters_.size(); ++id) ids_[characters_[id]] = static_cast<int32_t>(id);
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(characters_.size()) + 2; }
  int32_t end_of_text() const override { return unknown() + 1; }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size() + 1);  // the caller is likely to add end_of_text
    for (size_t position = 0; position < text.size();) {
      const Utf8Character character = read_utf8(text, position);
      ids.push_back(character.code_point < ids_.size() ? ids_[character.code_point] : unknown());
      position += static_cast<size_t>(character.length);
    }
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) {
        throw DataError("token " + std::to_string(id) + " lies outside the character vocabulary of " +
                        std::to_string(vocab_size()));
      }
      if (id == end_of_text()) continue;
      append_utf8(text, id == unknown() ? kReplacementCharacter : characters_[static_cast<size_t>(id)]);
    }
    return text;
  }

  std::string serialize() const override { return Json{{"type", "char"}, {"characters", characters_}}.dump(); }

 private:
  int32_t unknown() const { return static_cast<int32_t>(characters_.size()); }

  std::vector<uint32_t> characters_;
  std::vector<int32_t> ids_;  // by code point
};

}  // namespace

std::unique_ptr<Tokenizer> make_char_tokenizer(std::span<const std::string_view> texts) {
  std::vector<bool> seen(kLargestCodePoint + 1);
  for (const std::string_view text : texts) {
    for (size_t position = 0; position < text.size();) {
      const Utf8Character character = read_utf8(text, position);
      seen[character.code_point] = true;
      position += static_cast<size_t>(character.length);
    }
  }
  std::vector<uint32_t> characters;
  for (uint32_t code_point = 0; code_point <= kLargestCodePoint; ++code_point) {
    if (seen[code_point]) characters.push_back(code_point);
  }
  if (characters.empty()) throw DataError("a char tokenizer needs text with at least one character");
  return make_char_tokenizer_from(std::move(characters));
}

std::unique_ptr<Tokenizer> make_char_tokenizer_from(std::vector<uint32_t> characters) {
  return std::make_unique<CharTokenizer>(std::move(characters));
}

}  // namespace switchyard
