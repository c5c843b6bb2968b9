// Reading and writing UTF-8, strictly (RFC 3629).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

inline constexpr uint32_t kReplacementCharacter = 0xFFFD;
inline constexpr uint32_t kLargestCodePoint = 0x10FFFF;

struct Utf8Character {
  uint32_t code_point;  // kReplacementCharacter when the bytes are not UTF-8
  int length;           // bytes taken: 1 when they are not UTF-8
  bool valid;
};

// The character at `position`, which must lie inside `text`. Overlong forms, surrogates and cut sequences are not
// valid.
Utf8Character read_utf8(std::string_view text, size_t position);

// Whether all of `text` is UTF-8.
bool is_utf8(std::string_view text);

// Appends a code point that is_code_point().
void append_utf8(std::string& text, uint32_t code_point);

// Whether UTF-8 can hold it: up to 0x10FFFF and no surrogate.
bool is_code_point(uint64_t value);

}  // namespace switchyard
