#include "config/scalars.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

namespace switchyard {
namespace {

// Reads a word from its start, a piece at a time.
class Cursor {
 public:
  explicit Cursor(std::string_view word) : rest_(word) {}

  bool take(char c) { return take_one_of(std::string_view(&c, 1)); }
  bool take_one_of(std::string_view choices) {
    const bool found = !rest_.empty() && choices.find(rest_.front()) != std::string_view::npos;
    rest_.remove_prefix(found ? 1 : 0);
    return found;
  }
  // Takes all digits that follow and returns them.
  std::string_view take_digits(std::string_view digits = "0123456789") {
    const std::string_view taken = rest_.substr(0, rest_.find_first_not_of(digits));
    rest_.remove_prefix(taken.size());
    return taken;
  }
  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

bool has_leading_zero(std::string_view digits) { return digits.size() > 1 && digits.front() == '0'; }

bool is_integer(std::string_view word) {
  Cursor cursor(word);
  cursor.take('-');
  const std::string_view digits = cursor.take_digits();
  return !digits.empty() && !has_leading_zero(digits) && cursor.at_end();
}

std::string needs(const std::string& what, const YamlNode& node) {
  return "needs " + what + ", found " + described(node) + (node.is_scalar() && node.quoted ? " in quotes" : "");
}

bool is_decimal_number(std::string_view word) {
  Cursor cursor(word);
  cursor.take('-');
  const std::string_view whole = cursor.take_digits();
  const std::string_view fraction = cursor.take('.') ? cursor.take_digits() : "";
  if (has_leading_zero(whole) || (whole.empty() && fraction.empty())) {
    return false;
  }
  if (cursor.take_one_of("eE")) {
    cursor.take_one_of("+-");
    return !cursor.take_digits().empty() && cursor.at_end();
  }
  return cursor.at_end();
}

// 010 or -01.5
bool is_zero_padded(std::string_view word) {
  Cursor cursor(word);
  cursor.take('-');
  const bool padded = has_leading_zero(cursor.take_digits());
  if (cursor.take('.')) {
    cursor.take_digits();
  }
  return padded && cursor.at_end();
}

// 0x1f, 0o17, 0b1
bool is_in_other_base(std::string_view word) {
  Cursor cursor(word);
  cursor.take('-');
  return cursor.take('0') && cursor.take_one_of("xXoObB") && !cursor.take_digits("0123456789abcdefABCDEF").empty() &&
         cursor.at_end();
}

// 1_000 or 1,000,000
bool is_grouped(std::string_view word) {
  Cursor cursor(word);
  cursor.take('-');
  const size_t first = cursor.take_digits().size();
  int groups = 0;
  while (cursor.take_one_of("_,")) {
    ++groups;
    if (cursor.take_digits().size() != 3) {
      return false;
    }
  }
  return first >= 1 && first <= 3 && groups > 0 && cursor.at_end();
}

bool parse_double(const std::string& text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

// What to write instead of a number in a notation that is refused, or "".
std::string hint_for_number(std::string text) {
  if (is_zero_padded(text)) {
    return "; write it without leading zeros";
  }
  if (is_in_other_base(text)) {
    return "; write it in decimal";
  }
  if (is_grouped(text)) {
    std::erase_if(text, [](char c) { return c == '_' || c == ','; });
    return "; write " + text;
  }
  return "";
}

std::string hint_for_integer(const YamlNode& node) {
  double value = 0;
  if (!node.is_scalar() || !is_decimal_number(node.text) || !parse_double(node.text, value) ||
      value != std::floor(value) || std::fabs(value) > 9e15) {
    return node.is_scalar() ? hint_for_number(node.text) : "";
  }
  return "; write " + std::to_string(static_cast<int64_t>(value));
}

// What YAML 1.1 readers take for something else than a string, besides numbers.
constexpr std::array<std::string_view, 5> kYes = {"true", "yes", "on", "y", "1"};
constexpr std::array<std::string_view, 5> kNo = {"false", "no", "off", "n", "0"};

std::string in_lower_case(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return word;
}

template <class Words>
bool is_one_of(const Words& words, const std::string& word) {
  return std::find(words.begin(), words.end(), in_lower_case(word)) != words.end();
}

bool is_reserved(const std::string& word) {
  return is_one_of(kYes, word) || is_one_of(kNo, word) || in_lower_case(word) == "null";
}

template <class T>
std::string text_or_null(const NumberTarget<T>& target, std::string (*as_text)(T)) {
  return std::visit(Overloaded{
                        [&](const T* plain) { return as_text(*plain); },
                        [&](const auto* open) { return *open ? as_text(**open) : std::string("null"); },
                    },
                    target);
}

template <class T>
std::string in_brackets(const std::vector<T>& items, std::string (*as_text)(T)) {
  std::string result;
  for (const T& item : items) {
    result += (result.empty() ? "" : ", ") + as_text(item);
  }
  return "[" + result + "]";
}

std::string integer_text(int64_t value) { return std::to_string(value); }
std::string string_text(std::string value) { return as_yaml_string(value); }

// A range's ends as a user writes numbers: 1 rather than 1.0.
std::string end_text(double value) {
  return value == std::floor(value) && std::fabs(value) < 1e15 ? std::to_string(static_cast<int64_t>(value))
                                                               : as_decimal(value);
}

}  // namespace

std::string read_integer(const YamlNode& node, int64_t& value) {
  if (!node.is_scalar() || node.quoted || !is_integer(node.text)) {
    return needs("a whole number", node) + hint_for_integer(node);
  }
  int64_t parsed = 0;
  const auto result = std::from_chars(node.text.data(), node.text.data() + node.text.size(), parsed);
  if (result.ec != std::errc()) {
    return needs("a whole number of at most 64 bits", node);
  }
  value = parsed;
  return "";
}

std::string read_real(const YamlNode& node, double& value) {
  if (!node.is_scalar() || node.quoted || !is_decimal_number(node.text)) {
    std::string hint = node.is_scalar() ? hint_for_number(node.text) : "";
    if (node.is_scalar() && node.quoted && is_decimal_number(node.text)) {
      hint = "; write " + node.text;
    }
    return needs("a finite number", node) + hint;
  }
  double parsed = 0;
  if (!parse_double(node.text, parsed)) {
    return needs("a number that a double can hold", node);
  }
  value = parsed;
  return "";
}

std::string read_flag(const YamlNode& node, bool& value) {
  if (node.is_scalar() && !node.quoted && (node.text == "true" || node.text == "false")) {
    value = node.text == "true";
    return "";
  }
  std::string hint;
  if (node.is_scalar()) {
    hint = is_one_of(kYes, node.text) ? "; write true" : is_one_of(kNo, node.text) ? "; write false" : "";
  }
  return needs("true or false", node) + hint;
}

std::string range_problem(int64_t value, const IntegerRange& range) {
  if (range.least <= value && value <= range.most) {
    return "";
  }
  return "is " + std::to_string(value) + "; it must be " + range_text(range);
}

std::string range_problem(double value, const RealRange& range) {
  const bool above = range.open_least ? value > range.least : value >= range.least;
  const bool below = range.open_most ? value < range.most : value <= range.most;
  return above && below ? "" : "is " + as_decimal(value) + "; it must be " + range_text(range);
}

std::string range_text(const IntegerRange& range) {
  const std::string least = "at least " + std::to_string(range.least);
  return range.most == std::numeric_limits<int64_t>::max() ? least
                                                           : least + " and at most " + std::to_string(range.most);
}

std::string range_text(const RealRange& range) {
  return (range.open_least ? "above " : "at least ") + end_text(range.least) + " and " +
         (range.open_most ? "below " : "at most ") + end_text(range.most);
}

std::string as_decimal(double value) {
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), result.ptr);
  const size_t exponent = std::min(text.find('e'), text.size());
  if (text.find('.') == std::string::npos) {
    text.insert(exponent, ".0");
  }
  return text;
}

std::string as_yaml_string(const std::string& text) {
  static constexpr std::string_view kSafe = "_./-+@%=";
  const auto safe = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || kSafe.find(c) != std::string_view::npos;
  };
  const bool starts_safe = !text.empty() && (std::isalpha(static_cast<unsigned char>(text[0])) != 0 || text[0] == '/');
  if (starts_safe && std::all_of(text.begin(), text.end(), safe) && !is_reserved(text)) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  }
  return quoted + "\"";
}

std::string value_text(const FieldValue& value) {
  return std::visit(Overloaded{
                        [](const IntegerValue& v) { return text_or_null<int64_t>(v.target, integer_text); },
                        [](const RealValue& v) { return text_or_null<double>(v.target, as_decimal); },
                        [](const FlagValue& v) { return std::string(*v.target ? "true" : "false"); },
                        [](const TextValue& v) { return as_yaml_string(*v.target); },
                        [](const ChoiceValue& v) { return v.get(); },
                        [](const LayerListValue& v) {
                          const bool number = v.target->size() == 1 && v.target->front() >= 1;
                          return number ? integer_text(v.target->front())
                                        : in_brackets<int64_t>(*v.target, integer_text);
                        },
                        [](const GlobListValue& v) { return in_brackets<std::string>(*v.target, string_text); },
                        [](const auto&) { return std::string(); },
                    },
                    value);
}

}  // namespace switchyard
