#include "data/tokenizers/huggingface/byte_characters.h"

#include <array>

#include "base/utf8.h"

namespace switchyard {
namespace {

struct ByteCharacters {
  std::array<std::string, 256> characters;
  std::array<int, 0x144> bytes{};

  ByteCharacters() {
    bytes.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
      const uint32_t code_point = printable ? byte : next++;
      append_utf8(characters[byte], code_point);
      bytes[code_point] = static_cast<int>(byte);
    }
  }
};

const ByteCharacters& table() {
  static const ByteCharacters characters;
  return characters;
}

}  // namespace

std::string_view byte_character(unsigned char byte) { return table().characters[byte]; }

int byte_of_character(uint32_t code_point) {
  return code_point < table().bytes.size() ? table().bytes[code_point] : -1;
}

}  // namespace switchyard
