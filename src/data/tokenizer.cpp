#include "data/tokenizer.h"

#include <algorithm>

#include "base/errors.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/base64.h"
#include "data/char_tokenizer.h"
#include "data/guard.h"
#include "data/sentencepiece_tokenizer.h"
#include "data/tokenizers/huggingface/huggingface_tokenizer.h"

namespace switchyard {
namespace {

void check_keys(const Json& object, std::initializer_list<std::string_view> known, const std::string& where) {
  for (const std::string_view key : known) {
    if (!object.contains(key)) throw DataError(where + ": the key '" + std::string(key) + "' is missing");
  }
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw DataError(where + ": unknown key " + in_quotes(key));
    }
  }
}

const std::string& string_at(const Json& object, const char* key, const std::string& where) {
  const Json& value = object.at(key);
  if (!value.is_string()) throw DataError(where + ": '" + key + "' must be a string, it is a " + value.type_name());
  return value.get_ref<const std::string&>();
}

std::vector<uint32_t> read_characters(const Json& list, const std::string& where) {
  if (!list.is_array() || list.empty()) {
    throw DataError(where + ": 'characters' must be a list of code points, at least one");
  }
  std::vector<uint32_t> characters;
  for (const Json& item : list) {
    const uint64_t value = item.is_number_unsigned() ? item.get<uint64_t>() : UINT64_MAX;
    const bool ascending = characters.empty() || characters.back() < value;
    if (!ascending || !is_code_point(value)) {
      throw DataError(where + ": entry " + std::to_string(characters.size()) + " of 'characters' is " +
                      in_quotes(item.dump()) + ", it must be a code point above the one before");
    }
    characters.push_back(static_cast<uint32_t>(value));
  }
  return characters;
}

Json parse(std::string_view text, const std::string& where) {
  return with_data_errors([&] { return parse_json(text, where); });
}

}  // namespace

std::unique_ptr<Tokenizer> deserialize_tokenizer(std::string_view text, const std::string& where) {
  const Json object = parse(text, where);
  if (!object.is_object() || !object.contains("type")) {
    throw DataError(where + ": a tokenizer must be a JSON object with a \"type\"");
  }
  const std::string& type = string_at(object, "type", where);
  if (type == "byte") {
    check_keys(object, {"type"}, where);
    return make_byte_tokenizer();
  }
  if (type == "char") {
    check_keys(object, {"type", "characters"}, where);
    return make_char_tokenizer_from(read_characters(object.at("characters"), where));
  }
  if (type == "sentencepiece") {
    check_keys(object, {"type", "model"}, where);
    return make_sentencepiece_tokenizer(decode_base64(string_at(object, "model", where), where), where);
  }
  if (type == "huggingface") {
    check_keys(object, {"type", "end_of_text", "file"}, where);
    return make_huggingface_tokenizer(string_at(object, "file", where), {string_at(object, "end_of_text", where)},
                                      where);
  }
  throw DataError(where + ": unknown tokenizer type " + in_quotes(type) +
                  ", known are byte, char, sentencepiece and huggingface");
}

}  // namespace switchyard
