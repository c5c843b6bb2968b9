// JSON with nlohmann's library, read strictly: no duplicate keys, bounded depth and size.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace switchyard {

using Json = nlohmann::json;                 // keys sorted
using OrderedJson = nlohmann::ordered_json;  // keys as written

struct JsonLimits {
  int depth = 32;                   // arrays and objects inside each other
  size_t values = size_t{1} << 22;  // of all kinds; a named one takes some 120 bytes of memory
  size_t bytes = size_t{1} << 28;   // of text
};

// Parses untrusted text, in time that grows with its length. Throws Error "`where`: ..." on a syntax error, a zero
// byte, a duplicate key, or more of anything than `limits` allow. Integers beyond 64 bits become floats, as everywhere.
Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits = {});

}  // namespace switchyard
