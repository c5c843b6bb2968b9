#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/json.h"
#include "base/text.h"
#include "checkpoint/guard.h"

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian and copied as they are");

struct Dtype {
  std::string_view name;
  c10::ScalarType type;
  int64_t bytes;  // of a value
};

constexpr std::array<Dtype, 10> kDtypes = {{
    {"F64", c10::kDouble, 8},
    {"F32", c10::kFloat, 4},
    {"F16", c10::kHalf, 2},
    {"BF16", c10::kBFloat16, 2},
    {"I64", c10::kLong, 8},
    {"I32", c10::kInt, 4},
    {"I16", c10::kShort, 2},
    {"I8", c10::kChar, 1},
    {"U8", c10::kByte, 1},
    {"BOOL", c10::kBool, 1},
}};

const Dtype& read_dtype(const Json& value, const std::string& where) {
  if (!value.is_string()) fail(where, "dtype is " + std::string(value.type_name()) + ", not a string");
  const auto& name = value.get_ref<const std::string&>();
  std::string known;
  for (const Dtype& dtype : kDtypes) {
    if (dtype.name == name) return dtype;
    if (!known.empty()) known += ", ";
    known += dtype.name;
  }
  fail(where, "unknown dtype " + in_quotes(name) + "; known are " + known);
}

// Negative numbers, fractions and integers beyond 64 bits all have another JSON type here.
uint64_t read_count(const Json& value, const std::string& what, const std::string& where) {
  if (!value.is_number_unsigned()) {
    fail(where, what + " is " + in_quotes(value.dump()) + ", not a whole number from 0 to 2^64 - 1");
  }
  return value.get<uint64_t>();
}

std::vector<int64_t> read_shape(const Json& value, const std::string& where) {
  if (!value.is_array()) fail(where, "shape is " + std::string(value.type_name()) + ", not a list of numbers");
  if (value.size() > kMostDimensions) {
    fail(where,
         "its shape has " + std::to_string(value.size()) + " dimensions, more than " + std::to_string(kMostDimensions));
  }
  std::vector<int64_t> shape;
  for (const Json& entry : value) {
    const uint64_t size = read_count(entry, "a dimension", where);
    if (size > std::numeric_limits<int64_t>::max()) fail(where, "dimension " + std::to_string(size) + " is too large");
    shape.push_back(static_cast<int64_t>(size));
  }
  return shape;
}

// Bytes of a tensor. Strides are products of sizes too, with zeros counted as ones, so those must fit as well.
uint64_t size_in_bytes(const std::vector<int64_t>& shape, const Dtype& dtype, const std::string& where) {
  int64_t strides = dtype.bytes;
  bool empty = false;
  for (const int64_t size : shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(strides, std::max<int64_t>(size, 1), &strides)) {
      fail(where, "the product of its dimensions overflows 64 bits");
    }
  }
  return empty ? 0 : static_cast<uint64_t>(strides);
}

TensorInfo read_tensor(const Json& entry, uint64_t data_size, const std::string& where) {
  if (!entry.is_object()) fail(where, "its entry is " + std::string(entry.type_name()) + ", not an object");
  TensorInfo info{};
  const Dtype& dtype = read_dtype(member(entry, "dtype", where), where);
  info.dtype = dtype.type;
  info.shape = read_shape(member(entry, "shape", where), where);
  const Json& offsets = member(entry, "data_offsets", where);
  if (!offsets.is_array() || offsets.size() != 2) fail(where, "data_offsets is not a list of two numbers");
  info.begin = read_count(offsets[0], "its begin", where);
  info.end = read_count(offsets[1], "its end", where);
  const std::string range = "[" + std::to_string(info.begin) + ", " + std::to_string(info.end) + ")";
  if (info.end < info.begin) fail(where, "its bytes " + range + " end before they begin");
  if (info.end > data_size) {
    fail(where, "its bytes " + range + " reach beyond the data section of " + std::to_string(data_size) + " bytes");
  }
  const uint64_t expected = size_in_bytes(info.shape, dtype, where);
  if (info.end - info.begin != expected) {
    fail(where, "its bytes " + range + " are " + std::to_string(info.end - info.begin) +
                    ", but its shape and dtype need " + std::to_string(expected));
  }
  return info;
}

std::map<std::string, std::string> read_metadata(const Json& value, const std::string& where) {
  if (!value.is_object()) fail(where, "__metadata__ is " + std::string(value.type_name()) + ", not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      fail(where, "__metadata__ entry " + in_quotes(key) + " is " + text.type_name() + ", not a string");
    }
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

// Every byte of the data section belongs to exactly one tensor.
void check_coverage(const std::map<std::string, TensorInfo>& tensors, uint64_t data_size, const std::string& where) {
  std::vector<std::pair<const std::string*, const TensorInfo*>> order;
  for (const auto& [name, info] : tensors) order.emplace_back(&name, &info);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t position = 0;
  for (const auto& [name, info] : order) {
    if (info->begin != position) {
      fail(where, "tensor " + in_quotes(*name) + " begins at byte " + std::to_string(info->begin) +
                      (info->begin > position ? ", leaving a hole after byte " : ", overlapping what ends at byte ") +
                      std::to_string(position));
    }
    position = info->end;
  }
  if (position != data_size) {
    fail(where, "the data section has " + std::to_string(data_size) + " bytes, but its tensors end at byte " +
                    std::to_string(position));
  }
}

// The JSON text between the length and the data section.
std::string_view header_text(std::span<const std::byte> file, const std::string& where) {
  uint64_t size = 0;
  if (file.size() < sizeof(size)) {
    fail(where, "a safetensors file starts with 8 bytes of header length, but it has " + std::to_string(file.size()) +
                    " bytes in all");
  }
  std::memcpy(&size, file.data(), sizeof(size));
  if (size == 0) fail(where, "its header is empty");
  if (size > kMaxSafetensorsHeader) {
    fail(where, "its header would have " + std::to_string(size) + " bytes, more than the " +
                    std::to_string(kMaxSafetensorsHeader) + " allowed");
  }
  if (size > file.size() - sizeof(size)) {
    fail(where, "its header would have " + std::to_string(size) + " bytes, but only " +
                    std::to_string(file.size() - sizeof(size)) + " follow");
  }
  return {reinterpret_cast<const char*>(file.data()) + sizeof(size), static_cast<size_t>(size)};
}

Json parse_header_json(std::string_view text, const std::string& where) {
  if (text.front() != '{') fail(where, "its header does not start with '{'");
  constexpr int kDepth = 4;  // header, tensor, list: three; one more for entries of other writers
  return with_checkpoint_errors([&] { return parse_json(text, where + ": header", {.depth = kDepth}); });
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& where) {
  const std::string_view text = header_text(file, where);
  const Json json = parse_header_json(text, where);
  SafetensorsHeader header;
  header.data_offset = sizeof(uint64_t) + text.size();
  const uint64_t data_size = file.size() - header.data_offset;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      header.metadata = read_metadata(entry, where);
    } else {
      header.tensors.emplace(name, read_tensor(entry, data_size, where + ": tensor " + in_quotes(name)));
    }
  }
  check_coverage(header.tensors, data_size, where);
  return header;
}

std::optional<std::string_view> safetensors_dtype_name(c10::ScalarType type) {
  for (const Dtype& dtype : kDtypes) {
    if (dtype.type == type) return dtype.name;
  }
  return std::nullopt;
}

}  // namespace switchyard
