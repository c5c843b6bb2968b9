// Records: u64 length, masked CRC of it, data, masked CRC of data (tensorflow/core/lib/io/record_writer.cc). The data
// is an Event message (tensorflow/core/util/event.proto, summary.proto); field numbers below are from those files.
#include "metrics/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "base/errors.h"
#include "base/system.h"

namespace switchyard {
namespace {

constexpr uint32_t kCastagnoli = 0x82f63b78;  // reversed

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kCastagnoli : 0);
    table[byte] = crc;
  }
  return table;
}

// Little-endian bytes of an integer or a floating-point number.
template <typename T>
std::string fixed(T value) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>((value & 127) | 128);
  return bytes + static_cast<char>(value);
}

// Protocol-buffer fields: a key of field number and wire type, then the value.
std::string integer_field(int field, uint64_t value) { return varint(field << 3 | 0) + varint(value); }
std::string double_field(int field, double value) { return varint(field << 3 | 1) + fixed(value); }
std::string bytes_field(int field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
std::string float_field(int field, float value) { return varint(field << 3 | 5) + fixed(value); }

// Event: wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7.
std::string event(int64_t step, std::string_view content) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return double_field(1, now.count()) + integer_field(2, static_cast<uint64_t>(step)) + std::string(content);
}

// Event.summary with one Summary.Value: tag = 1, and `content`.
std::string summary_event(int64_t step, const std::string& tag, std::string_view content) {
  return event(step, bytes_field(5, bytes_field(1, bytes_field(1, tag) + std::string(content))));
}

// HistogramProto: min, max, num, sum, sum_squares = 1 to 5, bucket_limit (right edges) = 6, bucket = 7. TensorBoard
// drops the empty buckets at both ends and takes min and max for the outer edges of what is left, so those are edges
// here.
std::string histogram_proto(std::span<const double> counts) {
  double min = 0, max = 0, num = 0, sum = 0, squares = 0;
  std::string limits, buckets;
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto left = static_cast<double>(i);
    if (counts[i] > 0 && num == 0) min = left;
    if (counts[i] > 0) max = left + 1;
    num += counts[i];
    sum += counts[i] * (left + 0.5);
    squares += counts[i] * (left + 0.5) * (left + 0.5);
    limits += fixed(left + 1);
    buckets += fixed(counts[i]);
  }
  return double_field(1, min) + double_field(2, max) + double_field(3, num) + double_field(4, sum) +
         double_field(5, squares) + bytes_field(6, limits) + bytes_field(7, buckets);
}

// The first name that no file has yet.
std::filesystem::path new_event_file(const std::filesystem::path& folder) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::string stem =
      "events.out.tfevents." + std::to_string(seconds) + "." + host_name() + "." + std::to_string(::getpid()) + ".";
  for (int number = 0;; ++number) {
    std::filesystem::path path = folder / (stem + std::to_string(number));
    if (!std::filesystem::exists(path)) return path;
  }
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(byte)) & 255] ^ (crc >> 8);
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8; }

EventWriter::EventWriter(const std::filesystem::path& folder, std::optional<int64_t> next_step)
    : path_(new_event_file(folder)) {
  file_.open(path_, std::ios::binary);
  if (!file_) throw Error("cannot create " + path_.string() + ": " + std::strerror(errno));
  record(event(0, bytes_field(3, "brain.Event:2")));
  // SessionLog.status = 1: START = 1
  if (next_step) record(event(*next_step, bytes_field(7, integer_field(1, 1))));
  flush();
}

void EventWriter::scalar(const std::string& tag, double value, int64_t step) {
  record(summary_event(step, tag, float_field(2, static_cast<float>(value))));
}

void EventWriter::histogram(const std::string& tag, std::span<const double> counts, int64_t step) {
  record(summary_event(step, tag, bytes_field(5, histogram_proto(counts))));
}

void EventWriter::text(const std::string& tag, const std::string& markdown, int64_t step) {
  const uint64_t kString = 7;  // DT_STRING
  const std::string shape = bytes_field(2, integer_field(1, 1));
  const std::string tensor = integer_field(1, kString) + bytes_field(2, shape) + bytes_field(8, markdown);
  const std::string metadata = bytes_field(1, bytes_field(1, "text"));
  record(summary_event(step, tag, bytes_field(8, tensor) + bytes_field(9, metadata)));
}

void EventWriter::flush() {
  if (!file_.flush()) throw Error("cannot write " + path_.string() + ": " + std::strerror(errno));
}

void EventWriter::record(const std::string& event) {
  const std::string length = fixed(static_cast<uint64_t>(event.size()));
  file_ << length << fixed(masked_crc32c(length)) << event << fixed(masked_crc32c(event));
  if (!file_) throw Error("cannot write " + path_.string() + ": " + std::strerror(errno));
}

}  // namespace switchyard
