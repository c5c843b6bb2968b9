// A value of tokenizer.json and where it stands, so that every message names both. Private to data/.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace switchyard {

class JsonPart {
 public:
  // `value` must outlive it. The place of the whole file is its name and a colon.
  JsonPart(const Json& value, std::string place) : value_(&value), place_(std::move(place)) {}

  // The member `key`; at() throws DataError where there is none, find() gives nothing for none and for null.
  JsonPart at(const std::string& key) const;
  std::optional<JsonPart> find(const std::string& key) const;
  std::vector<JsonPart> items() const;  // of an array
  // The parts that this one stands for: itself, or where its type is Sequence, those of its array `list`, which may be
  // sequences again. Throws DataError for more than `most`.
  std::vector<JsonPart> steps(const char* list, size_t most) const;

  // The value as one of a type. Throws DataError for another.
  const std::string& text() const;
  bool flag() const;
  double number() const;
  int64_t whole_number(int64_t lowest, int64_t highest) const;
  char32_t character() const;  // a text of one

  std::string text_or(const std::string& key, const std::string& otherwise) const;
  bool flag_or(const std::string& key, bool otherwise) const;

  const Json& json() const { return *value_; }
  const std::string& place() const { return place_; }
  [[noreturn]] void fail(const std::string& what) const;

 private:
  [[noreturn]] void fail_type(const char* wanted) const;
  void add_steps(const char* list, size_t most, std::vector<JsonPart>& steps) const;
  void need_object() const;
  std::string place_of(const std::string& key) const;

  const Json* value_;
  std::string place_;
};

}  // namespace switchyard
