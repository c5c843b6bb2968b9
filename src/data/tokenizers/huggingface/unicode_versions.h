// The `tokenizers` package has several versions of Unicode inside, and so have the libraries that are used here. These
// tables are what they differ in. Private to data/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

// Its regular expressions, words and numbers are those of Unicode 16, PCRE2's of 14 and utf8proc's of 15. A character
// that came in since 14 is replaced by an older one of the same category and as many bytes; others stay.
uint32_t older_character(uint32_t code_point);
// The same for all of a text. Returns whether there was any.
bool replace_new_characters(std::string_view text, std::string& result);

// Its normalisation forms and combining marks are those of Unicode 9: what came in later stays as it is, in its place.
bool is_since_unicode_10(uint32_t code_point);
// Its categories, of punctuation and of nonspacing marks, are those of Unicode 8.
bool is_mark_of_unicode_9(uint32_t code_point);
bool is_punctuation_since_unicode_9(uint32_t code_point);

}  // namespace switchyard
