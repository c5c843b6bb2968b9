#include "base/text.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <numeric>
#include <utility>

#include "base/utf8.h"

namespace switchyard {
namespace {

// Untrusted words in messages are cut to this.
constexpr size_t kLongestWord = 80;
// What fits not at all would otherwise fill the screen.
constexpr size_t kMostLines = 20;

// Levenshtein distance, one row at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitution});
    }
  }
  return row.back();
}

// C0 and C1 control characters, separators of lines, and marks that turn the direction of writing.
bool is_command(uint32_t code) {
  const auto within = [code](uint32_t first, uint32_t last) { return code >= first && code <= last; };
  return code < 0x20 || within(0x7f, 0x9f) || within(0x2028, 0x202e) || within(0x2066, 0x2069);
}

// `kept`: control characters that stay; not more than `most` bytes of `text`, whole characters.
std::string escaped(std::string_view text, std::string_view kept, size_t most) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = read_utf8(text, i);
    const std::string_view bytes = text.substr(i, static_cast<size_t>(character.length));
    if (i + bytes.size() > most) return result + "...";
    if (character.valid && (!is_command(character.code_point) || kept.find(bytes) != std::string_view::npos)) {
      result += bytes;
    } else {
      for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        result += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
      }
    }
    i += bytes.size();
  }
  return result;
}

}  // namespace

std::string printable(std::string_view text) { return escaped(text, "\n\t", text.size()); }

std::string shortened(std::string_view text, size_t most) { return escaped(text, "", most); }

std::string in_quotes(std::string_view word) { return "'" + shortened(word, kLongestWord) + "'"; }

std::string as_list(const std::vector<std::string>& lines) {
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), kMostLines); ++i) text += "\n  " + lines[i];
  if (lines.size() > kMostLines) text += "\n  and " + std::to_string(lines.size() - kMostLines) + " more";
  return text;
}

std::string formatted(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  va_list again;
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, arguments);
  va_end(arguments);
  std::string text(static_cast<size_t>(std::max(size, 0)) + 1, '\0');
  std::vsnprintf(text.data(), text.size(), format, again);
  va_end(again);
  text.pop_back();
  return text;
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(word.size() < 4 ? 1 : 2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string with_thousands(int64_t value) {
  const std::string plain = std::to_string(value);
  const size_t sign = value < 0 ? 1 : 0;
  std::string text;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (i > sign && (plain.size() - i) % 3 == 0) text += ',';
    text += plain[i];
  }
  return text;
}

std::string with_si_suffix(double value) {
  static constexpr std::array<const char*, 7> kSuffixes = {"", "k", "M", "G", "T", "P", "E"};
  size_t step = 0;
  while (value >= 999.5 && step + 1 < kSuffixes.size()) {
    value /= 1000;
    ++step;
  }
  return formatted("%.*f", step == 0 || value >= 99.95 ? 0 : 1, value) + kSuffixes[step];
}

std::string as_bytes_text(double bytes) {
  static constexpr std::array<const char*, 6> kUnits = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
  size_t step = 0;
  while (bytes >= 1023.5 && step + 1 < kUnits.size()) {
    bytes /= 1024;
    ++step;
  }
  return formatted("%.*f", step == 0 ? 0 : 1, bytes) + kUnits[step];
}

std::string as_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, seconds));
  std::array<char, 64> buffer{};
  if (whole >= 3600) {
    std::snprintf(buffer.data(), buffer.size(), "%ldh %02ldm", whole / 3600, whole / 60 % 60);
  } else if (whole >= 60) {
    std::snprintf(buffer.data(), buffer.size(), "%ldm %02lds", whole / 60, whole % 60);
  } else {
    std::snprintf(buffer.data(), buffer.size(), "%lds", whole);
  }
  return buffer.data();
}

}  // namespace switchyard
