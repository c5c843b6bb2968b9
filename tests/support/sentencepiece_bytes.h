// SentencePiece models put together by hand (sentencepiece_model.proto).
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace switchyard::test {

// A length-delimited field of a protocol buffer.
inline std::string message_field(int number, const std::string& bytes) {
  std::string size;
  for (size_t rest = bytes.size(); rest > 0 || size.empty(); rest >>= 7) {
    size += static_cast<char>((rest & 127) | (rest > 127 ? 128 : 0));
  }
  return static_cast<char>(number << 3 | 2) + size + bytes;
}

// A number below 128.
inline std::string number_field(int number, int value) {
  return static_cast<char>(number << 3) + std::string(1, static_cast<char>(value));
}

// A model's normalizer whose character map has the keys "a", "aa" and so on, each of which becomes "".
inline std::string normalizer_of_nested_keys(uint32_t depth) {
  std::vector<uint32_t> units(256 * size_t{depth + 2});
  uint32_t unit = 0;
  for (uint32_t key = 0; key <= depth; ++key) {
    const uint32_t children = 256 * (key + 1);
    units[unit] |= (unit ^ children) << 10 | (key > 0 ? 256 : 0);
    units[children] = 1U << 31;  // the value of this key: its replacement's place
    unit = children ^ 'a';
    units[unit] = key < depth ? 'a' : 0;
  }
  const auto size = static_cast<uint32_t>(units.size() * sizeof(uint32_t));
  std::string map(size + 5, '\0');
  std::memcpy(map.data(), &size, sizeof(size));
  std::memcpy(map.data() + 4, units.data(), size);
  return message_field(3, message_field(2, map));
}

}  // namespace switchyard::test
