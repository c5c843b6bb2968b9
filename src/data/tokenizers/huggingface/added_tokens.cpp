#include "data/tokenizers/huggingface/added_tokens.h"

#include <algorithm>

#include "base/utf8.h"
#include "data/tokenizers/huggingface/characters.h"

namespace switchyard {
namespace {

// Where the character that ends at `end` begins.
size_t character_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word_character(read_utf8(text, character_before(text, text.size())).code_point);
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word_character(read_utf8(text, 0).code_point);
}

size_t skip_spaces_back(std::string_view text, size_t end, size_t least) {
  while (end > least) {
    const size_t begin = character_before(text, end);
    if (!is_white_space(read_utf8(text, begin).code_point)) break;
    end = begin;
  }
  return std::max(end, least);
}

size_t skip_spaces(std::string_view text, size_t begin) {
  while (begin < text.size() && is_white_space(read_utf8(text, begin).code_point)) {
    begin += static_cast<size_t>(read_utf8(text, begin).length);
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(const std::vector<JsonPart>& items, const Vocabulary& vocabulary,
                         const Normalizer& normalizer) {
  auto next_id = static_cast<int32_t>(vocabulary.size());
  for (const JsonPart& item : items) add(item, vocabulary, normalizer, next_id);
}

void AddedTokens::add(const JsonPart& part, const Vocabulary& vocabulary, const Normalizer& normalizer,
                      int32_t& next_id) {
  const std::string& content = part.at("content").text();
  if (content.size() > Vocabulary::kLongestToken) part.fail("its content is too long for a token");
  if (content.empty()) return;
  int32_t id = id_of(content);
  if (id == Vocabulary::kNone) id = vocabulary.find(content);
  if (id == Vocabulary::kNone) id = next_id++;
  const bool special = part.flag_or("special", false);
  std::string text = content;
  if (part.flag_or("normalized", !special)) {
    bool at_start = true;
    normalizer.apply(text, at_start);
    if (!text.empty()) normalized_.insert(text, id);
  } else {
    plain_.insert(text, id);
  }
  ids_[content] = id;
  if (special) specials_.insert(content);
  tokens_[id] = {part.flag_or("single_word", false), part.flag_or("lstrip", false), part.flag_or("rstrip", false)};
  texts_[id] = std::move(text);
}

int32_t AddedTokens::id_of(const std::string& content) const {
  const auto found = ids_.find(content);
  return found == ids_.end() ? Vocabulary::kNone : found->second;
}

const std::string* AddedTokens::content_of(int32_t id) const {
  const auto found = std::find_if(ids_.begin(), ids_.end(), [id](const auto& entry) { return entry.second == id; });
  return found == ids_.end() ? nullptr : &found->first;
}

std::vector<AddedStretch> AddedTokens::find(const ByteTrie& trie, std::string_view text) const {
  std::vector<AddedStretch> stretches;
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    size_t length = 0;
    int32_t id = Vocabulary::kNone;
    trie.find_prefixes(text.substr(i), [&](size_t found_length, int32_t found) {
      length = found_length;
      id = found;
    });
    if (id == Vocabulary::kNone) {
      ++i;
      continue;
    }
    size_t begin = i;
    size_t end = i + length;
    i = end;  // what is looked for next, even behind the white space that this one takes
    const Token& token = tokens_.at(id);
    if (token.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
    if (token.left_spaces) begin = skip_spaces_back(text, begin, done);
    if (token.right_spaces) end = skip_spaces(text, end);
    if (done < begin) stretches.push_back({done, begin});
    stretches.push_back({begin, end, id});
    done = end;
  }
  if (done < text.size()) stretches.push_back({done, text.size()});
  return stretches;
}

}  // namespace switchyard
