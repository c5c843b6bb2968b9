// Safetensors files put together by hand.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace switchyard::test {

inline std::string little_endian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> 8 * i & 0xff);
  return bytes;
}

// Length, header, and `data_size` bytes of data.
inline std::string safetensors_bytes(std::string_view header, size_t data_size) {
  return little_endian(header.size()) + std::string(header) + std::string(data_size, '\x01');
}

}  // namespace switchyard::test
