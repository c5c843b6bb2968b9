#include "data/tokenizers/huggingface/json_part.h"

#include "base/errors.h"
#include "base/text.h"
#include "base/utf8.h"

namespace switchyard {

JsonPart JsonPart::at(const std::string& key) const {
  need_object();
  const auto found = value_->find(key);
  if (found == value_->end()) fail("the key '" + key + "' is missing");
  return {*found, place_of(key)};
}

std::optional<JsonPart> JsonPart::find(const std::string& key) const {
  need_object();
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return JsonPart(*found, place_of(key));
}

std::vector<JsonPart> JsonPart::items() const {
  if (!value_->is_array()) fail_type("a list");
  std::vector<JsonPart> items;
  for (const Json& item : *value_) items.emplace_back(item, place_ + "[" + std::to_string(items.size()) + "]");
  return items;
}

std::vector<JsonPart> JsonPart::steps(const char* list, size_t most) const {
  std::vector<JsonPart> steps;
  add_steps(list, most, steps);
  return steps;
}

void JsonPart::add_steps(const char* list, size_t most, std::vector<JsonPart>& steps) const {
  if (at("type").text() == "Sequence") {
    for (const JsonPart& item : at(list).items()) item.add_steps(list, most, steps);
    return;
  }
  if (steps.size() == most) fail("there are more than " + std::to_string(most) + " steps");
  steps.push_back(*this);
}

const std::string& JsonPart::text() const {
  if (!value_->is_string()) fail_type("a text");
  return value_->get_ref<const std::string&>();
}

bool JsonPart::flag() const {
  if (!value_->is_boolean()) fail_type("true or false");
  return value_->get<bool>();
}

double JsonPart::number() const {
  if (!value_->is_number()) fail_type("a number");
  return value_->get<double>();
}

int64_t JsonPart::whole_number(int64_t lowest, int64_t highest) const {
  const bool fits = value_->is_number_integer() &&
                    (!value_->is_number_unsigned() || value_->get<uint64_t>() <= static_cast<uint64_t>(highest));
  if (!fits || value_->get<int64_t>() < lowest || value_->get<int64_t>() > highest) {
    fail_type(("a whole number from " + std::to_string(lowest) + " to " + std::to_string(highest)).c_str());
  }
  return value_->get<int64_t>();
}

char32_t JsonPart::character() const {
  const std::string& value = text();
  if (value.empty() || read_utf8(value, 0).length != static_cast<int>(value.size())) fail_type("a single character");
  return read_utf8(value, 0).code_point;
}

std::string JsonPart::text_or(const std::string& key, const std::string& otherwise) const {
  const auto part = find(key);
  return part ? part->text() : otherwise;
}

bool JsonPart::flag_or(const std::string& key, bool otherwise) const {
  const auto part = find(key);
  return part ? part->flag() : otherwise;
}

std::string JsonPart::place_of(const std::string& key) const {
  return place_ + (place_.ends_with(':') ? " " : ".") + key;
}

void JsonPart::fail(const std::string& what) const {
  throw DataError(place_ + (place_.ends_with(':') ? " " : ": ") + what);
}

void JsonPart::fail_type(const char* wanted) const {
  fail("must be " + std::string(wanted) + ", it is " +
       (value_->is_structured() ? std::string(value_->type_name()) : in_quotes(value_->dump())));
}

void JsonPart::need_object() const {
  if (!value_->is_object()) fail_type("an object");
}

}  // namespace switchyard
