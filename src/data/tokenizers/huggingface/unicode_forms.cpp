#include "data/tokenizers/huggingface/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/utf8.h"
#include "data/tokenizers/huggingface/unicode_versions.h"

namespace switchyard {
namespace {

constexpr int kMostOfOne = 32;  // characters that one is taken apart into: 18 in Unicode 15

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_left_alone(utf8proc_int32_t code_point) { return is_since_unicode_10(static_cast<uint32_t>(code_point)); }

int combining_class(utf8proc_int32_t code_point) {
  const int combining = utf8proc_get_property(code_point)->combining_class;
  return combining != 0 && is_left_alone(code_point) ? 0 : combining;
}

std::vector<utf8proc_int32_t> taken_apart(std::string_view text, bool compatible) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size() + kMostOfOne);
  int boundary = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = read_utf8(text, i);
    const auto code_point = static_cast<utf8proc_int32_t>(character.code_point);
    i += static_cast<size_t>(character.length);
    if (is_left_alone(code_point)) {
      characters.push_back(code_point);
      continue;
    }
    const size_t before = characters.size();
    characters.resize(before + kMostOfOne);
    const auto count = utf8proc_decompose_char(code_point, characters.data() + before, kMostOfOne, options, &boundary);
    characters.resize(before + static_cast<size_t>(count));
  }
  return characters;
}

// Marks that follow each other, by class. utf8proc does the same in time that is quadratic in their number.
void order_marks(std::vector<utf8proc_int32_t>& characters) {
  const auto by_class = [](auto a, auto b) { return combining_class(a) < combining_class(b); };
  const auto is_mark_of_class = [](auto character) { return combining_class(character) != 0; };
  for (auto begin = characters.begin(); begin != characters.end();) {
    begin = std::find_if(begin, characters.end(), is_mark_of_class);
    const auto end = std::find_if_not(begin, characters.end(), is_mark_of_class);
    if (end - begin > 1) std::stable_sort(begin, end, by_class);
    begin = end;
  }
}

// Composes what stands between characters that are left alone.
void compose(std::vector<utf8proc_int32_t>& characters) {
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  std::vector<utf8proc_int32_t> result;
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto end = std::find_if(begin, characters.end(), is_left_alone);
    const auto count = utf8proc_normalize_utf32(&*begin, end - begin, kOptions);
    result.insert(result.end(), begin, begin + count);
    begin = std::find_if_not(end, characters.end(), is_left_alone);
    result.insert(result.end(), end, begin);
  }
  characters = std::move(result);
}

// Of capital letters that came in with Unicode 16 and 17; the letter itself of any other character.
uint32_t new_lower_case(uint32_t c) {
  if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;
  if (c >= 0x16EA0 && c <= 0x16EB8) return c + 0x1B;
  if (c == 0xA7CB) return 0x264;
  if (c == 0xA7DC) return 0x19B;
  const bool before_its_lower_case =
      c == 0x1C89 || c == 0xA7CC || c == 0xA7CE || c == 0xA7D2 || c == 0xA7D4 || c == 0xA7DA;
  return before_its_lower_case ? c + 1 : c;
}

}  // namespace

void normalize_unicode(std::string& text, const UnicodeForm& form) {
  if (is_ascii(text)) return;
  std::vector<utf8proc_int32_t> characters = taken_apart(text, form.compatible);
  order_marks(characters);
  if (form.composed) compose(characters);
  text.clear();
  for (const utf8proc_int32_t character : characters) append_utf8(text, static_cast<uint32_t>(character));
}

void lower_case(std::string& text) {
  constexpr uint32_t kCapitalIWithDot = 0x130;
  std::string lower;
  lower.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = read_utf8(text, i);
    i += static_cast<size_t>(character.length);
    if (character.code_point == kCapitalIWithDot) {
      lower += "i\xCC\x87";  // the only one with two characters: U+0307 is its dot
    } else {
      const auto code_point = static_cast<utf8proc_int32_t>(character.code_point);
      append_utf8(lower, new_lower_case(static_cast<uint32_t>(utf8proc_tolower(code_point))));
    }
  }
  text = std::move(lower);
}

}  // namespace switchyard
