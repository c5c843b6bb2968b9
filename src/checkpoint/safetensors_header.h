// The header of a safetensors file, checked as a whole before anything of a tensor's size is allocated.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// The longest header, in bytes, that the format allows.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// The most dimensions of a tensor: as many as LibTorch's loops take.
inline constexpr size_t kMostDimensions = 64;

struct TensorInfo {
  c10::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin;  // bytes from the start of the data section
  uint64_t end;
};

struct SafetensorsHeader {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
  uint64_t data_offset = 0;  // bytes from the start of the file to the data section
};

// Reads the header out of a whole file's bytes. The tensors fill the data section exactly: no hole, no overlap, and
// the last one ends where the file ends. `where` starts every message. Throws CheckpointError.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& where);

// "BF16" and the like; nothing for a type the format (as read here) lacks.
std::optional<std::string_view> safetensors_dtype_name(c10::ScalarType type);

}  // namespace switchyard
