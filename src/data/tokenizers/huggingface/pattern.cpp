#include "data/tokenizers/huggingface/pattern.h"

namespace switchyard {

Pattern::Pattern(const JsonPart& part) {
  if (const auto regex = part.find("Regex")) {
    regex_.emplace(regex->text(), regex->place());
    return;
  }
  const JsonPart literal = part.at("String");
  literal_ = literal.text();
  if (literal_.empty()) literal.fail("must not be empty");
}

void Pattern::find(std::string_view text, std::vector<Section>& sections) const {
  if (regex_) return regex_->find(text, sections);
  sections.clear();
  size_t done = 0;
  for (size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, done)) {
    if (done < at) sections.push_back({done, at, false});
    done = at + literal_.size();
    sections.push_back({at, done, true});
  }
  if (done < text.size()) sections.push_back({done, text.size(), false});
}

}  // namespace switchyard
