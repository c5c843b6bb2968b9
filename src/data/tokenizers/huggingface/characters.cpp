#include "data/tokenizers/huggingface/characters.h"

#include <utf8proc.h>

#include "data/tokenizers/huggingface/unicode_versions.h"

namespace switchyard {
namespace {

utf8proc_category_t category_of(uint32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

bool is_between(utf8proc_category_t category, utf8proc_category_t first, utf8proc_category_t last) {
  return category >= first && category <= last;
}

bool is_ascii_symbol(uint32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

}  // namespace

bool is_white_space(uint32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_numeric(uint32_t c) {
  const bool since_unicode_17 = (c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6);
  return since_unicode_17 || is_between(category_of(older_character(c)), UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool is_punctuation(uint32_t c) {
  if (is_ascii_symbol(c) || c == 0x166D || c == 0x111C9) return true;  // the two are something else by now
  return is_between(category_of(c), UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO) && !is_punctuation_since_unicode_9(c);
}

bool is_mark(uint32_t c) {
  const bool was_one = c == 0x1CF2 || c == 0x1CF3;
  return was_one || (is_between(category_of(c), UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME) && !is_since_unicode_10(c));
}

bool is_nonspacing_mark(uint32_t c) {
  const bool was_one = c == 0x1734;
  return was_one || (category_of(c) == UTF8PROC_CATEGORY_MN && !is_since_unicode_10(c) && !is_mark_of_unicode_9(c));
}

bool is_other(uint32_t c) {
  const bool since_unicode_9 = c == 0x890 || c == 0x891 || c == 0x8E2 || c == 0x110CD || (c >= 0x13430 && c <= 0x1343F);
  return is_between(category_of(c), UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO) && !since_unicode_9;
}

bool is_word_character(uint32_t c) {
  const utf8proc_category_t category = category_of(older_character(c));
  const bool joiner = c == 0x200C || c == 0x200D;
  const bool framed_letter = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                             (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  return is_between(category, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC ||
         joiner || framed_letter;
}

bool is_chinese(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

}  // namespace switchyard
