#include "checkpoint/huggingface/json_keys.h"

#include "base/errors.h"
#include "base/text.h"

namespace switchyard {
namespace {

constexpr uint64_t kMostInteger = uint64_t{1} << 53;

}  // namespace

JsonKeys::JsonKeys(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
  if (!json_.is_object()) {
    throw CheckpointError(where_ + ": expected an object, found " + std::string(json_.type_name()));
  }
}

void JsonKeys::fail(const std::string& key, const std::string& what) const {
  throw CheckpointError(where_ + ": " + in_quotes(key) + " " + what);
}

void JsonKeys::require(bool holds, const std::string& key, const std::string& what) const {
  if (!holds) fail(key, what);
}

const Json* JsonKeys::find(const std::string& key) const {
  const auto found = json_.find(key);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> JsonKeys::maybe_integer(const std::string& key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool whole = value->is_number_unsigned() || (value->is_number_integer() && value->get<int64_t>() >= 0);
  if (!whole || value->get<uint64_t>() > kMostInteger) {
    fail(key, "is " + in_quotes(value->dump()) + ", it must be a whole number from 0 to 2^53");
  }
  return value->get<int64_t>();
}

int64_t JsonKeys::integer(const std::string& key) const {
  const auto value = maybe_integer(key);
  if (!value) fail(key, "is missing");
  return *value;
}

int64_t JsonKeys::integer_of(const std::vector<std::string>& keys) const {
  for (const std::string& key : keys) {
    if (const auto value = maybe_integer(key)) return *value;
  }
  fail(keys.front(), "is missing");
}

double JsonKeys::real(const std::string& key, double otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) fail(key, "is " + in_quotes(value->dump()) + ", it must be a number");
  return value->get<double>();
}

bool JsonKeys::flag(const std::string& key, bool otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) fail(key, "is " + in_quotes(value->dump()) + ", it must be true or false");
  return value->get<bool>();
}

std::string JsonKeys::text(const std::string& key, const std::string& otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) fail(key, "is " + in_quotes(value->dump()) + ", it must be a string");
  return value->get<std::string>();
}

std::map<std::string, std::string> JsonKeys::texts(const std::string& key) const {
  const Json* object = find(key);
  if (object == nullptr || !object->is_object() || object->empty()) fail(key, "must be an object of texts by name");
  std::map<std::string, std::string> texts;
  for (const auto& [name, text] : object->items()) {
    if (!text.is_string()) fail(key, "needs texts: " + in_quotes(name) + " is mapped to " + in_quotes(text.dump()));
    texts[name] = text.get<std::string>();
  }
  return texts;
}

JsonKeys JsonKeys::section(const std::string& key) const { return {*find(key), where_ + ": " + in_quotes(key)}; }

}  // namespace switchyard
