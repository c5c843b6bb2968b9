// Small text helpers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// The candidate with the smallest edit distance to `word`, or "" when none is close: up to a third of its length, but
// two edits in a word of four letters (a transposition is two) and one in a shorter one.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

// `text` with what a terminal could obey escaped: control characters (but newline and tab), bytes that are not UTF-8,
// marks that turn the direction of writing.
std::string printable(std::string_view text);

// The same without newlines and tabs, cut to `most` bytes and "...".
std::string shortened(std::string_view text, size_t most);

// Foreign words in a message (names, keys, values): shortened, in single quotes.
std::string in_quotes(std::string_view word);

// A line each, indented, for the end of a message; of many the first, and how many more there are.
std::string as_list(const std::vector<std::string>& lines);

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string formatted(const char* format, ...);

// 1234567 -> "1,234,567".
std::string with_thousands(int64_t value);
// 22600000 -> "22.6M"; 999 -> "999".
std::string with_si_suffix(double value);
// 1536 -> "1.5 KiB".
std::string as_bytes_text(double bytes);
// 3725 seconds -> "1h 02m"; 65 -> "1m 05s"; 4.2 -> "4s".
std::string as_duration(double seconds);

}  // namespace switchyard
