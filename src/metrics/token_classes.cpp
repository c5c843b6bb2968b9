#include "metrics/token_classes.h"

#include <algorithm>
#include <string_view>

namespace switchyard {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_small(char c) { return c >= 'a' && c <= 'z'; }
bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_small(c) || is_capital(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80; }
bool is_part_of_name(char c) { return is_letter(c) || is_digit(c); }

bool is_spelt_as_identifier(std::string_view run) {
  for (size_t i = 0; i < run.size(); ++i) {
    if (run[i] == '_' || is_digit(run[i]) || (i > 0 && is_small(run[i - 1]) && is_capital(run[i]))) return true;
  }
  return false;
}

bool touches_code(std::string_view before, std::string_view after) {
  return before.ends_with("::") || before.ends_with(".") || before.ends_with("->") || after.starts_with("::") ||
         after.starts_with("(");
}

// One past the run that begins at `begin`.
size_t end_of_run(std::string_view text, size_t begin) {
  size_t end = begin + 1;
  const auto go_on = [&](auto belongs) {
    while (end < text.size() && belongs(text[end])) ++end;
  };
  if (is_space(text[begin])) {
    go_on(is_space);
  } else if (is_letter(text[begin])) {
    go_on(is_part_of_name);
  } else if (is_digit(text[begin])) {
    go_on([&](char c) { return is_part_of_name(c) || (c == '.' && end + 1 < text.size() && is_digit(text[end + 1])); });
  }
  return end;
}

TokenClass class_of_run(std::string_view text, size_t begin, size_t end) {
  if (is_space(text[begin])) return TokenClass::kSpace;
  if (is_digit(text[begin])) return TokenClass::kNumber;
  if (!is_letter(text[begin])) return TokenClass::kPunctuation;
  const bool identifier =
      is_spelt_as_identifier(text.substr(begin, end - begin)) || touches_code(text.substr(0, begin), text.substr(end));
  return identifier ? TokenClass::kIdentifier : TokenClass::kWord;
}

}  // namespace

const char* token_class_name(TokenClass kind) {
  switch (kind) {
    case TokenClass::kWord:
      return "word";
    case TokenClass::kIdentifier:
      return "identifier";
    case TokenClass::kNumber:
      return "number";
    case TokenClass::kSpace:
      return "space";
    case TokenClass::kPunctuation:
      return "punctuation";
    case TokenClass::kOther:
      return "other";
  }
  return "";
}

std::vector<TokenClass> classify_tokens(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  std::vector<TokenClass> of_byte(text.size(), TokenClass::kOther);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = end_of_run(text, begin);
    std::fill(of_byte.begin() + static_cast<int64_t>(begin), of_byte.begin() + static_cast<int64_t>(end),
              class_of_run(text, begin, end));
    begin = end;
  }
  std::vector<TokenClass> classes;
  size_t at = 0;
  for (const std::string& token : tokens) {
    const auto first = std::find_if_not(token.begin(), token.end(), is_space);
    const size_t place = at + (first == token.end() ? 0 : static_cast<size_t>(first - token.begin()));
    classes.push_back(token.empty() ? TokenClass::kOther : of_byte[place]);
    at += token.size();
  }
  return classes;
}

}  // namespace switchyard
