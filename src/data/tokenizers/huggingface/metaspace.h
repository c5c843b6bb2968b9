// Spaces as a visible character, for a pre-tokenizer and a decoder. Private to data/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/tokenizers/huggingface/json_part.h"

namespace switchyard {

class Metaspace {
 public:
  explicit Metaspace(const JsonPart& part);

  uint32_t mark() const { return mark_; }

  // `piece` with marks for spaces, and one at its front where the scheme says so.
  void append_marked(std::string_view piece, bool at_start, std::string& result) const;
  // The inverse, for a token.
  std::string unmarked(std::string_view token, bool first) const;

 private:
  enum class Scheme { kAlways, kFirst, kNever };  // to which pieces a mark is put in front

  static Scheme read_scheme(const JsonPart& part);

  uint32_t mark_;
  std::string mark_text_;
  Scheme scheme_;
};

}  // namespace switchyard
