#include <algorithm>
#include <cstring>

#include "base/errors.h"
#include "base/text.h"
#include "data/tokenizers/huggingface/regex.h"

namespace switchyard {
namespace {

// Oniguruma's word characters, with Latin-1's small numbers; PCRE2's are others.
constexpr const char* kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
constexpr const char* kHexDigits = "0-9a-fA-F";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class SyntaxTranslator {
 public:
  SyntaxTranslator(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string translated() {
    while (next_ < pattern_.size()) {
      const char c = pattern_[next_];
      if (c == '*' || c == '+' || c == '?' || c == '|') {
        copy(1);
      } else if (c == '{') {
        read_interval();
      } else if (c == ')') {
        read_close();
      } else {
        atom_ = result_.size();
        read_atom(c);
      }
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw DataError(where_ + ": the regular expression " + in_quotes(pattern_) + " has " + what + " at byte " +
                    std::to_string(next_) + ", which is not known here");
  }

  void copy(size_t bytes) {
    result_ += pattern_.substr(next_, bytes);
    next_ += bytes;
  }

  bool at(std::string_view text) const { return pattern_.substr(next_).starts_with(text); }

  void read_atom(char c) {
    if (c == '(') {
      open_.push_back(result_.size());
      read_group();
    } else if (c == '[') {
      read_class();
    } else if (c == '\\') {
      read_escape(false);
    } else {
      size_t bytes = 1;  // of a whole character, so that a repetition takes all of it
      while (next_ + bytes < pattern_.size() && (static_cast<unsigned char>(pattern_[next_ + bytes]) & 0xC0) == 0x80) {
        ++bytes;
      }
      copy(bytes);
    }
  }

  void read_group() {
    for (const char* kind : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (at(kind)) return copy(std::strlen(kind));
    }
    if (at("(*")) refuse("'(*'");
    if (!at("(?")) return copy(1);
    // Options: those of letter case are the same, Ruby's m lets a dot match a line end.
    size_t end = next_ + 2;
    std::string options = "(?";
    for (; end < pattern_.size() && std::strchr("im-", pattern_[end]) != nullptr; ++end) {
      options += pattern_[end] == 'm' ? 's' : pattern_[end];
    }
    if (end == next_ + 2 || end == pattern_.size() || (pattern_[end] != ':' && pattern_[end] != ')')) {
      refuse("'" + std::string(pattern_.substr(next_, 3)) + "'");
    }
    result_ += options;
    next_ = end;
    if (pattern_[next_] == ':') copy(1);
  }

  void read_close() {
    if (open_.empty()) refuse("a ')' too many");
    atom_ = open_.back();
    open_.pop_back();
    copy(1);
  }

  void read_class() {
    copy(1);
    if (at("^")) copy(1);
    for (bool first = true;; first = false) {
      if (next_ >= pattern_.size()) refuse("a '[' without its ']'");
      if (at("]") && !first) return copy(1);
      if (at("[")) refuse("a '[' in a '[...]'");
      if (at("&&")) refuse("'&&' in a '[...]'");
      if (at("\\")) {
        read_escape(true);
      } else {
        copy(1);
      }
    }
  }

  void read_escape(bool in_class) {
    if (next_ + 1 == pattern_.size()) refuse("a '\\'");
    const char c = pattern_[next_ + 1];
    const auto put = [&](const std::string& text) {
      result_ += text;
      next_ += 2;
    };
    const auto put_set = [&](const std::string& members, bool inverted) {
      if (!in_class) return put((inverted ? "[^" : "[") + members + "]");
      if (inverted) refuse(std::string("'\\") + c + "' in a '[...]'");
      put(members);
    };
    if (c == 's') return put("\\p{White_Space}");
    if (c == 'S') return put("\\P{White_Space}");
    if (c == 'w' || c == 'W') return put_set(kWord, c == 'W');
    if (c == 'h' || c == 'H') return put_set(kHexDigits, c == 'H');
    if (c == 'v') return put("\\x0b");
    if (c == 'u') return read_code_point();
    if (c == 'b' && !in_class) {
      const std::string word = std::string("[") + kWord + "]";
      return put("(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))");
    }
    const bool known = std::strchr(in_class ? "dDpPnrtfaexb" : "dDpPnrtfaexAzZ", c) != nullptr;
    if ((is_letter(c) && !known) || c == '\0') refuse(std::string("'\\") + c + "'");
    copy(2);
    if (c == 'p' || c == 'P' || c == 'x') read_braces();
  }

  void read_braces() {
    if (!at("{")) return;
    const size_t end = pattern_.find('}', next_);
    if (end == std::string_view::npos) refuse("a '{' without its '}'");
    copy(end + 1 - next_);
  }

  void read_code_point() {
    const std::string_view digits = pattern_.substr(next_ + 2, 4);
    if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
      refuse("'\\u' without four digits");
    }
    result_ += "\\x{" + std::string(digits) + "}";
    next_ += 6;
  }

  // {n}, {n,}, {n,m} and {,m} after an atom. What else begins with '{' stands for itself. A '+' after it repeats the
  // whole, and so does a '?' after {n}; to PCRE2 they would say how {n} repeats.
  void read_interval() {
    size_t end = next_ + 1;
    while (end < pattern_.size() && (is_digit(pattern_[end]) || pattern_[end] == ',')) ++end;
    const std::string_view inside = pattern_.substr(next_ + 1, end - next_ - 1);
    const size_t commas = static_cast<size_t>(std::count(inside.begin(), inside.end(), ','));
    if (end == pattern_.size() || pattern_[end] != '}' || inside.empty() || commas > 1 || inside == ",") {
      atom_ = result_.size();
      result_ += '\\';
      return copy(1);
    }
    result_ += std::string("{") + (inside.front() == ',' ? "0" : "") + std::string(inside) + "}";
    next_ = end + 1;
    if (at("+") || (at("?") && commas == 0)) {
      result_.insert(atom_, "(?:");
      result_ += ")";
    }
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string result_;
  size_t next_ = 0;
  size_t atom_ = 0;           // where the last atom begins in result_
  std::vector<size_t> open_;  // where open groups begin there
};

}  // namespace

std::string pcre2_syntax(std::string_view pattern, const std::string& where) {
  return SyntaxTranslator(pattern, where).translated();
}

}  // namespace switchyard
