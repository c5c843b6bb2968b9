// TensorBoard event files, written without protobuf. A resumed run opens a new file; TensorBoard joins them by step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

class EventWriter {
 public:
  // Creates events.out.tfevents.<secs>.<host>.<pid>.<n> in `folder`. Where a run goes on that other files are of,
  // `next_step` is the first that this one has: TensorBoard then forgets what they say of it and of later steps. Throws
  // Error.
  explicit EventWriter(const std::filesystem::path& folder, std::optional<int64_t> next_step = std::nullopt);

  // Each writes one record, buffered; floats are what the format holds. All throw Error (a full disk, for instance).
  void scalar(const std::string& tag, double value, int64_t step);
  // A bar per entry: bucket i spans [i, i + 1) and holds counts[i]; sum and sum of squares take its middle. Used for
  // tokens per expert.
  void histogram(const std::string& tag, std::span<const double> counts, int64_t step);
  // Shown in TensorBoard's text tab.
  void text(const std::string& tag, const std::string& markdown, int64_t step);
  // Hands what is buffered to the system.
  void flush();

  const std::filesystem::path& path() const { return path_; }

 private:
  void record(const std::string& event);

  std::filesystem::path path_;
  std::ofstream file_;
};

// CRC-32C (Castagnoli) and TensorBoard's mask of it.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

}  // namespace switchyard
