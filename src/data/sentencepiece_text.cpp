#include "data/sentencepiece_text.h"

#include "base/utf8.h"

namespace switchyard {
namespace {

bool is_plain(const Utf8Character& character) {
  constexpr uint32_t kSpaceSymbol = 0x2581;    // stands for ' ' inside pieces
  constexpr uint32_t kUnknownSymbol = 0x2585;  // stands for rare characters in training
  return character.valid && character.code_point >= 0x20 && character.code_point != 0x7F &&
         character.code_point != kSpaceSymbol && character.code_point != kUnknownSymbol;
}

}  // namespace

TextStretch next_stretch(std::string_view text, size_t position) {
  const bool plain = is_plain(read_utf8(text, position));
  size_t end = position;
  while (end < text.size()) {
    const Utf8Character character = read_utf8(text, end);
    if (is_plain(character) != plain) break;
    end += static_cast<size_t>(character.length);
  }
  return {text.substr(position, end - position), plain};
}

}  // namespace switchyard
