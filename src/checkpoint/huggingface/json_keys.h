// Typed reads of an untrusted JSON object.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace switchyard {

// null counts as absent. Every failure is a CheckpointError that starts with `where` and names the key.
class JsonKeys {
 public:
  // `json` must outlive this. Throws where it is no object.
  JsonKeys(const Json& json, std::string where);

  [[noreturn]] void fail(const std::string& key, const std::string& what) const;
  void require(bool holds, const std::string& key, const std::string& what) const;

  const Json* find(const std::string& key) const;
  bool has(const std::string& key) const { return json_.contains(key); }  // null is there, too
  // Whole numbers from 0 to 2^53. Without `otherwise` the key must be there.
  int64_t integer(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t otherwise) const { return maybe_integer(key).value_or(otherwise); }
  std::optional<int64_t> maybe_integer(const std::string& key) const;
  // The first of several names for one thing.
  int64_t integer_of(const std::vector<std::string>& keys) const;
  double real(const std::string& key, double otherwise) const;
  bool flag(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key, const std::string& otherwise) const;
  // The object at `key`, of texts by name. It must be there and hold one.
  std::map<std::string, std::string> texts(const std::string& key) const;
  // The object at a key that find() has found.
  JsonKeys section(const std::string& key) const;

 private:
  const Json& json_;
  std::string where_;
};

}  // namespace switchyard
