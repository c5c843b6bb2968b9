#include "data/encoding.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cstring>

#include "base/errors.h"
#include "base/text.h"
#include "base/utf8.h"

namespace switchyard {
namespace {

using namespace std::string_view_literals;

constexpr double kMostFaults = 1e-3;  // a share of the bytes: Latin-1 has more in any language with accents

struct Format {
  std::string_view magic;
  std::string_view name;
  size_t place = 0;
};

constexpr std::array kFormats = {Format{"\x1f\x8b"sv, "gzip data (which is read from names that end in .gz)"},
                                 Format{"\xfd"
                                        "7zXZ\0"sv,
                                        "xz data"},
                                 Format{"\x28\xb5\x2f\xfd"sv, "zstd data"},
                                 Format{"BZh"sv, "bzip2 data"},
                                 Format{"\x04\x22\x4d\x18"sv, "lz4 data"},
                                 Format{"7z\xbc\xaf\x27\x1c"sv, "a 7z archive"},
                                 Format{"PK\x03\x04"sv, "a zip archive"},
                                 Format{"ustar"sv, "a tar archive", 257},
                                 Format{"PAR1"sv, "a parquet table"},
                                 Format{"ARROW1"sv, "an arrow table"},
                                 Format{"\x89HDF\r\n"sv, "HDF5 data"},
                                 Format{"\x93NUMPY"sv, "a NumPy array"},
                                 Format{"SQLite format 3"sv, "an SQLite database"},
                                 Format{"%PDF-"sv, "a PDF document"},
                                 Format{"\x7f"
                                        "ELF"sv,
                                        "a program"},
                                 Format{"\x89PNG"sv, "a PNG picture"},
                                 Format{"\xff\xd8\xff"sv, "a JPEG picture"},
                                 Format{"\xff\xfe"sv, "UTF-16 text"},
                                 Format{"\xfe\xff"sv, "UTF-16 text"}};

// Whether the eight bytes are all of ASCII and none is zero.
bool is_plain(const char* bytes) {
  constexpr uint64_t kHigh = 0x8080808080808080;
  constexpr uint64_t kOnes = 0x0101010101010101;
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));
  return ((word | (word - kOnes)) & kHigh) == 0;
}

}  // namespace

void refuse_known_formats(std::string_view content, const std::filesystem::path& path) {
  for (const Format& format : kFormats) {
    if (content.size() < format.place || !content.substr(format.place).starts_with(format.magic)) continue;
    throw DataError(path.string() + " holds " + std::string(format.name) +
                    ", not UTF-8 text: convert it, or train on its bytes as they are with the source's key encoding: "
                    "bytes");
  }
}

std::string utf8_of_latin1(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) append_utf8(result, static_cast<unsigned char>(c));
  return result;
}

TextFaults find_faults(std::string_view text) {
  TextFaults faults{.bytes = static_cast<int64_t>(text.size())};
  for (size_t i = 0; i < text.size();) {
    if (text.size() - i >= 8 && is_plain(text.data() + i)) {
      i += 8;
      continue;
    }
    const Utf8Character character = read_utf8(text, i);
    faults.invalid += character.valid ? 0 : 1;
    faults.zeros += character.code_point == 0 ? 1 : 0;
    i += static_cast<size_t>(character.length);
  }
  return faults;
}

void SourceFaults::add(const TextFaults& file, const std::filesystem::path& path) {
  all_.bytes += file.bytes;
  all_.invalid += file.invalid;
  all_.zeros += file.zeros;
  if (file.count() > most_) {
    most_ = file.count();
    worst_ = path;
  }
}

void SourceFaults::judge(const std::string& source) const {
  if (all_.count() == 0) return;
  const double share = static_cast<double>(all_.count()) / static_cast<double>(all_.bytes);
  const std::string found = "source " + in_quotes(source) + ": of " + with_thousands(all_.bytes) + " bytes " +
                            with_thousands(all_.invalid) + " are not UTF-8 and " + with_thousands(all_.zeros) +
                            " are zero (" + formatted("%.2g", 100 * share) + " %), most of them in " + worst_.string();
  if (share > kMostFaults) {
    throw DataError(found +
                    ": convert the files to UTF-8, or say what they hold with the source's key encoding (latin-1, or "
                    "bytes for anything)");
  }
  spdlog::warn("data: {}", found);
}

}  // namespace switchyard
