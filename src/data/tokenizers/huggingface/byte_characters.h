// The characters that stand for bytes in byte-level vocabularies, as GPT-2 has them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

// Printable Latin-1 for itself, the other bytes from U+0100 on, in order; as UTF-8.
std::string_view byte_character(unsigned char byte);

// The byte that a code point stands for, or -1.
int byte_of_character(uint32_t code_point);

}  // namespace switchyard
