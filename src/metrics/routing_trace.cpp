#include "metrics/routing_trace.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/errors.h"
#include "base/json.h"
#include "base/text.h"

namespace switchyard {
namespace {

constexpr const char* kFormat = "switchyard-trace-1";
constexpr int64_t kMostExperts = 1 << 20;

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path), file_(path) {
    if (!file_) fail_file(std::string("cannot be read: ") + std::strerror(errno));
  }

  RoutingTrace read() {
    std::string line;
    while (std::getline(file_, line)) {
      ++number_;
      const Json json = parsed(line);
      number_ == 1 ? read_header(json) : read_token(json);
    }
    if (file_.bad()) fail_file("cannot be read to its end");
    if (number_ == 0) fail_file("is empty, not a routing trace");
    for (const auto& [layer, sets] : trace_.layers) trace_.tokens = std::max(trace_.tokens, tokens_[layer]);
    if (trace_.tokens == 0) fail_file("holds no token");
    return std::move(trace_);
  }

 private:
  [[noreturn]] void fail_file(const std::string& what) const { throw DataError(path_.string() + ": " + what); }
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(path_.string() + ":" + std::to_string(number_) + ": " + what);
  }

  Json parsed(const std::string& line) const {
    try {
      Json json = parse_json(line, path_.string() + ":" + std::to_string(number_));
      if (json.is_object()) return json;
    } catch (const Error& error) {
      throw DataError(error.what());
    }
    fail("found no JSON object; a routing trace has one a line (switchyard trace --out FILE.jsonl writes one)");
  }

  // A whole number in [0, end).
  int64_t integer(const Json& value, const std::string& what, int64_t end) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= static_cast<uint64_t>(end)) {
      fail(what + " is " + in_quotes(value.dump()) + ", not a whole number from 0 to " + std::to_string(end - 1));
    }
    return value.get<int64_t>();
  }

  const Json& entry(const Json& json, const char* key) const {
    const auto found = json.find(key);
    if (found == json.end()) fail(std::string("the entry \"") + key + "\" is missing");
    return *found;
  }

  const Json& list(const Json& json, const char* key) const {
    const Json& value = entry(json, key);
    if (!value.is_array()) fail(std::string("\"") + key + "\" is no list");
    return value;
  }

  void read_header(const Json& json) {
    const auto format = json.find("format");
    if (format == json.end() || *format != kFormat) {
      fail(std::string("a routing trace begins with {\"format\":\"") + kFormat + "\", ...}, this file with " +
           in_quotes(json.dump()));
    }
    trace_.num_experts = integer(entry(json, "num_experts"), "\"num_experts\"", kMostExperts);
    for (const Json& layer : list(json, "layers")) {
      const int64_t index = integer(layer, "an entry of \"layers\"", kMostExperts);
      trace_.layers[index];
    }
  }

  void read_token(const Json& json) {
    const int64_t layer = integer(entry(json, "layer"), "\"layer\"", kMostExperts);
    const auto sets = trace_.layers.find(layer);
    if (sets == trace_.layers.end()) fail("layer " + std::to_string(layer) + " is not among the layers of line 1");
    const Json& experts = list(json, "experts");
    if (list(json, "weights").size() != experts.size()) fail("there are not as many weights as experts");
    std::vector<int32_t> set;
    for (const Json& expert : experts) {
      set.push_back(static_cast<int32_t>(integer(expert, "an expert", trace_.num_experts)));
    }
    std::sort(set.begin(), set.end());
    if (std::adjacent_find(set.begin(), set.end()) != set.end()) fail("an expert is named twice");
    ++sets->second[set];
    ++tokens_[layer];
  }

  std::filesystem::path path_;
  std::ifstream file_;
  int64_t number_ = 0;
  RoutingTrace trace_;
  std::map<int64_t, int64_t> tokens_;
};

}  // namespace

RoutingTrace read_routing_trace(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) throw DataError(path.string() + " is a folder, not a routing trace");
  return Reader(path).read();
}

}  // namespace switchyard
