// Whether a file's bytes are text, and in which encoding. Private to data/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "config/config.h"

namespace switchyard {

// Throws DataError for files that begin as those of a known format other than text do: archives, pictures, tables,
// UTF-16.
void refuse_known_formats(std::string_view content, const std::filesystem::path& path);

std::string utf8_of_latin1(std::string_view text);

// What UTF-8 text has none of.
struct TextFaults {
  int64_t bytes = 0;    // of all text
  int64_t invalid = 0;  // bytes that are not UTF-8
  int64_t zeros = 0;    // U+0000

  int64_t count() const { return invalid + zeros; }
};
TextFaults find_faults(std::string_view text);

// The faults of one source's files: warns of a few, throws DataError above one in a thousand bytes.
class SourceFaults {
 public:
  void add(const TextFaults& file, const std::filesystem::path& path);
  void judge(const std::string& source) const;

 private:
  TextFaults all_;
  int64_t most_ = 0;
  std::filesystem::path worst_;  // the file with most of them
};

}  // namespace switchyard
