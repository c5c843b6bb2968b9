#include "base/json.h"

#include <utility>
#include <vector>

#include "base/errors.h"
#include "base/text.h"

namespace switchyard {
namespace {

constexpr size_t kLongestReason = 200;

// Builds the value from the parser's events. nlohmann's own parser with a callback looks through all siblings at the
// end of each object, which takes minutes for tens of thousands of them.
class JsonBuilder : public nlohmann::json_sax<Json> {
 public:
  JsonBuilder(const std::string& where, const JsonLimits& limits) : where_(where), limits_(limits) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return false; }  // not in JSON text
  bool start_object(size_t /*size*/) override { return open(Json::object()); }
  bool start_array(size_t /*size*/) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [place, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(name));
    if (!is_new) fail("JSON object has the key " + in_quotes(place->first) + " twice");
    member_ = &place->second;
    return true;
  }

  bool parse_error(size_t /*position*/, const std::string& /*token*/, const Json::exception& error) override {
    fail("not valid JSON (" + shortened(error.what(), kLongestReason) + ")");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(where_ + ": " + what); }

  // Where the next value belongs. What is open stays where it is until it is closed.
  Json& place() {
    if (++values_ > limits_.values) fail("JSON holds more than " + std::to_string(limits_.values) + " values");
    if (open_.empty()) return root_;
    return open_.back()->is_array() ? open_.back()->get_ref<Json::array_t&>().emplace_back() : *member_;
  }

  template <class Value>
  bool add(Value&& value) {
    place() = std::forward<Value>(value);
    return true;
  }

  bool open(Json container) {
    if (open_.size() >= static_cast<size_t>(limits_.depth)) {
      fail("JSON is nested deeper than " + std::to_string(limits_.depth) + " levels");
    }
    Json& value = place();
    value = std::move(container);
    open_.push_back(&value);
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& where_;
  const JsonLimits& limits_;
  Json root_;
  std::vector<Json*> open_;
  Json* member_ = nullptr;  // of the innermost object, after its key
  size_t values_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    throw Error(where + ": JSON of " + std::to_string(text.size()) + " bytes, more than the " +
                std::to_string(limits.bytes) + " allowed");
  }
  // The parser takes a zero byte for the end of the text, so that whatever follows it would pass unread.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    throw Error(where + ": not valid JSON (zero byte at position " + std::to_string(zero) + ")");
  }
  JsonBuilder builder(where, limits);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace switchyard
