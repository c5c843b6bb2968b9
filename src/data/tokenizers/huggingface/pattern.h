// The "pattern" of a part of tokenizer.json: {"String": ...} or {"Regex": ...}. Private to data/.
#pragma once

#include <optional>
#include <string>

#include "data/tokenizers/huggingface/json_part.h"
#include "data/tokenizers/huggingface/regex.h"

namespace switchyard {

class Pattern {
 public:
  explicit Pattern(const JsonPart& part);

  void find(std::string_view text, std::vector<Section>& sections) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

}  // namespace switchyard
