#include "base/utf8.h"

namespace switchyard {
namespace {

constexpr Utf8Character kInvalid{kReplacementCharacter, 1, false};

// How many bytes a sequence has and the smallest code point it may hold, by its first byte; 0 bytes: not a first byte.
struct Lead {
  int length;
  uint32_t bits;
  uint32_t smallest;
};

Lead classify(unsigned char byte) {
  if (byte < 0x80) return {1, byte, 0};
  if (byte >= 0xC2 && byte < 0xE0) return {2, byte & 0x1Fu, 0x80};
  if (byte >= 0xE0 && byte < 0xF0) return {3, byte & 0x0Fu, 0x800};
  if (byte >= 0xF0 && byte < 0xF5) return {4, byte & 0x07u, 0x10000};
  return {0, 0, 0};
}

}  // namespace

Utf8Character read_utf8(std::string_view text, size_t position) {
  const Lead lead = classify(static_cast<unsigned char>(text[position]));
  if (lead.length == 0 || text.size() - position < static_cast<size_t>(lead.length)) return kInvalid;
  uint32_t code_point = lead.bits;
  for (int i = 1; i < lead.length; ++i) {
    const auto byte = static_cast<unsigned char>(text[position + static_cast<size_t>(i)]);
    if ((byte & 0xC0) != 0x80) return kInvalid;
    code_point = code_point << 6 | (byte & 0x3Fu);
  }
  if (code_point < lead.smallest || !is_code_point(code_point)) return kInvalid;
  return {code_point, lead.length, true};
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = read_utf8(text, i);
    if (!character.valid) return false;
    i += static_cast<size_t>(character.length);
  }
  return true;
}

void append_utf8(std::string& text, uint32_t code_point) {
  const auto continuation = [&](int shift) { text += static_cast<char>(0x80 | (code_point >> shift & 0x3F)); };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | code_point >> 6);
    continuation(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0 | code_point >> 12);
    continuation(6);
    continuation(0);
  } else {
    text += static_cast<char>(0xF0 | code_point >> 18);
    continuation(12);
    continuation(6);
    continuation(0);
  }
}

bool is_code_point(uint64_t value) { return value <= kLargestCodePoint && (value < 0xD800 || value > 0xDFFF); }

}  // namespace switchyard
