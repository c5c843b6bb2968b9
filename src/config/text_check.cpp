#include "config/text_check.h"

#include <algorithm>
#include <string>

#include "base/utf8.h"

namespace switchyard {
namespace {

// The YAML scanner keeps every bracket of a line as a possible key until the line ends, some 250 bytes each. Real
// nesting is bounded by the tree builder; this bounds the scanner. Brackets in quotes and comments count too, which is
// why the number is far above any nesting that is allowed.
constexpr int kMostOpenBrackets = 1000;

std::string as_hex_byte(char c) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  return std::string("0x") + kDigits[byte >> 4] + kDigits[byte & 15];
}

class TextChecker {
 public:
  explicit TextChecker(std::string_view text) : text_(text) {}

  // The first problem's description, or "" at the end of the text. line() and column() say where.
  std::string first_problem() {
    while (position_ < text_.size()) {
      const Utf8Character character = read_utf8(text_, position_);
      std::string problem = problem_here(character);
      if (!problem.empty()) {
        return problem;
      }
      advance(static_cast<size_t>(character.length));
    }
    return "";
  }
  int line() const { return line_; }
  int column() const { return column_; }

 private:
  std::string problem_here(const Utf8Character& character) {
    const char c = text_[position_];
    if (!character.valid) {
      return "byte " + as_hex_byte(c) + " is not UTF-8 text; save the file as UTF-8";
    }
    if (c == '\t' && in_indentation_) {
      return "a tab in the indentation; YAML is indented with spaces";
    }
    const bool line_end = c == '\n' || (c == '\r' && text_.substr(position_ + 1, 1) == "\n");
    const auto byte = static_cast<unsigned char>(c);
    if (!line_end && c != '\t' && (byte < 0x20 || byte == 0x7f)) {
      return "control character " + as_hex_byte(c) + " is not text";
    }
    if (c == '[' || c == '{') {
      ++open_brackets_;
    } else if (c == ']' || c == '}') {
      open_brackets_ = std::max(0, open_brackets_ - 1);
    }
    return open_brackets_ > kMostOpenBrackets ? "brackets are nested too deep" : "";
  }

  void advance(size_t length) {
    const char c = text_[position_];
    position_ += length;
    ++column_;
    in_indentation_ = in_indentation_ && c == ' ';
    if (c == '\n') {
      ++line_;
      column_ = 1;
      in_indentation_ = true;
    }
  }

  std::string_view text_;
  size_t position_ = 0;
  int line_ = 1;
  int column_ = 1;
  int open_brackets_ = 0;
  bool in_indentation_ = true;
};

}  // namespace

bool check_text(std::string_view text, const std::shared_ptr<const SourceText>& source, Problems& problems) {
  if (text.size() > kMostConfigBytes) {
    problems.add({source}, "the text has " + std::to_string(text.size()) + " bytes; a configuration has at most " +
                               std::to_string(kMostConfigBytes));
    return false;
  }
  TextChecker checker(text);
  const std::string problem = checker.first_problem();
  if (problem.empty()) {
    return true;
  }
  problems.add(source->is_override ? Place{source} : Place{source, checker.line(), checker.column()}, problem);
  return false;
}

}  // namespace switchyard
