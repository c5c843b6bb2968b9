#include "data/tokenizers/huggingface/metaspace.h"

#include "base/text.h"
#include "base/utf8.h"

namespace switchyard {

Metaspace::Metaspace(const JsonPart& part) : mark_(part.at("replacement").character()), scheme_(read_scheme(part)) {
  append_utf8(mark_text_, mark_);
}

Metaspace::Scheme Metaspace::read_scheme(const JsonPart& part) {
  const std::string name = part.text_or("prepend_scheme", "always");
  if (!part.flag_or("add_prefix_space", true)) {
    if (part.find("prepend_scheme") && name != "never") {
      part.fail("add_prefix_space is false, and prepend_scheme " + in_quotes(name) + " contradicts it");
    }
    return Scheme::kNever;
  }
  if (name == "always") return Scheme::kAlways;
  if (name == "first") return Scheme::kFirst;
  if (name == "never") return Scheme::kNever;
  part.fail("prepend_scheme is " + in_quotes(name) + "; it must be always, first or never");
}

void Metaspace::append_marked(std::string_view piece, bool at_start, std::string& result) const {
  const bool has_mark = piece.starts_with(' ') || piece.starts_with(mark_text_);
  if (!has_mark && (scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && at_start))) result += mark_text_;
  for (const char c : piece) c == ' ' ? result += mark_text_ : result += c;
}

std::string Metaspace::unmarked(std::string_view token, bool first) const {
  const bool drop = first && scheme_ != Scheme::kNever;
  std::string text;
  for (size_t i = 0; i < token.size();) {
    const bool mark = token.substr(i).starts_with(mark_text_);
    if (!mark) text += token[i];
    if (mark && !drop) text += ' ';
    i += mark ? mark_text_.size() : 1;
  }
  return text;
}

}  // namespace switchyard
