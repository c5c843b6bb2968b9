#include "base/text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace switchyard {
namespace {

TEST(Text, NearestWord) {
  const std::vector<std::string> keys = {"hidden_size", "num_layers", "top_k", "lr"};
  EXPECT_EQ(nearest_word("hiden_size", keys), "hidden_size");
  EXPECT_EQ(nearest_word("num_layer", keys), "num_layers");
  EXPECT_EQ(nearest_word("top_k", keys), "top_k");
  EXPECT_EQ(nearest_word("completely_else", keys), "");
  EXPECT_EQ(nearest_word("lr", {}), "");
}

TEST(Text, Thousands) {
  EXPECT_EQ(with_thousands(0), "0");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(with_thousands(1000), "1,000");
  EXPECT_EQ(with_thousands(1234567), "1,234,567");
  EXPECT_EQ(with_thousands(-123456), "-123,456");
  EXPECT_EQ(with_thousands(-1234), "-1,234");
  EXPECT_EQ(with_thousands(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(Text, SiSuffixes) {
  EXPECT_EQ(with_si_suffix(0), "0");
  EXPECT_EQ(with_si_suffix(999), "999");
  EXPECT_EQ(with_si_suffix(1000), "1.0k");
  EXPECT_EQ(with_si_suffix(22600000), "22.6M");
  EXPECT_EQ(with_si_suffix(123456), "123k");
  EXPECT_EQ(with_si_suffix(999999), "1.0M");
  EXPECT_EQ(with_si_suffix(2.5e9), "2.5G");
}

TEST(Text, Bytes) {
  EXPECT_EQ(as_bytes_text(0), "0 B");
  EXPECT_EQ(as_bytes_text(1023), "1023 B");
  EXPECT_EQ(as_bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(as_bytes_text(1048576), "1.0 MiB");
  EXPECT_EQ(as_bytes_text(5368709120.0), "5.0 GiB");
}

TEST(Text, Durations) {
  EXPECT_EQ(as_duration(4.2), "4s");
  EXPECT_EQ(as_duration(65), "1m 05s");
  EXPECT_EQ(as_duration(3725), "1h 02m");
  EXPECT_EQ(as_duration(-1), "0s");
  EXPECT_EQ(as_duration(359999), "99h 59m");
}

TEST(Text, QuotesAreShortAndOnOneLine) {
  EXPECT_EQ(in_quotes("top_k"), "'top_k'");
  EXPECT_EQ(in_quotes(""), "''");
  EXPECT_EQ(in_quotes(std::string_view("a\n\0\x7f", 4)), R"('a\x0a\x00\x7f')");
  EXPECT_EQ(in_quotes("ключ"), "'ключ'");
  EXPECT_EQ(in_quotes(std::string(80, 'x')), "'" + std::string(80, 'x') + "'");
  EXPECT_EQ(in_quotes(std::string(81, 'x')), "'" + std::string(80, 'x') + "...'");
  EXPECT_EQ(in_quotes(std::string(79, 'x') + "ключ"), "'" + std::string(79, 'x') + "...'");  // no letter is split
}

TEST(Text, NothingForTheTerminalToObey) {
  EXPECT_EQ(in_quotes("\x1b[2J\xc2\x9b"
                      "31m"),
            R"('\x1b[2J\xc2\x9b31m')");  // as ESC, and as one C1 character
  EXPECT_EQ(in_quotes("a\xff"
                      "b\xc3"),
            R"('a\xffb\xc3')");
  EXPECT_EQ(in_quotes("\u202e"
                      "abc\u2028"),
            R"('\xe2\x80\xaeabc\xe2\x80\xa8')");
  EXPECT_EQ(printable("two\n\tlines\r \x1b]0;title\x07 naïve"), "two\n\tlines\\x0d \\x1b]0;title\\x07 naïve");
}

TEST(Text, ListsAreCutWithACount) {
  EXPECT_EQ(as_list({}), "");
  EXPECT_EQ(as_list({"a", "b"}), "\n  a\n  b");
  const std::string text = as_list(std::vector<std::string>(8000, "x"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 21);
  EXPECT_TRUE(text.ends_with("\n  x\n  and 7980 more"));
}

TEST(Text, Formatted) {
  EXPECT_EQ(formatted("%d of %s: %.2f", 3, "four", 0.5), "3 of four: 0.50");
  EXPECT_EQ(formatted("%s", std::string(1000, 'x').c_str()), std::string(1000, 'x'));
  EXPECT_EQ(formatted("%s", ""), "");
}

}  // namespace
}  // namespace switchyard
