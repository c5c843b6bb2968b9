#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::message_of;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_of(std::string_view text, int depth = 32) {
  return message_of<Error>([&] { parse_json(text, "place", {.depth = depth}); });
}

std::string nested(int depth, char open, char close) { return std::string(depth, open) + std::string(depth, close); }

TEST(Json, ReadsValues) {
  const Json json = parse_json(R"({"a": [1, -2, 3.5, "x", true, null], "b": {"a": 1}})", "place");
  EXPECT_EQ(json["a"][0].get<int>(), 1);
  EXPECT_EQ(json["a"][2].get<double>(), 3.5);
  EXPECT_TRUE(json["a"][5].is_null());
  EXPECT_EQ(json["b"]["a"].get<int>(), 1);
  EXPECT_EQ(parse_json("7", "place").get<int>(), 7);
}

TEST(Json, SyntaxErrorsNameThePlace) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "nul", "01", "'a'", "{} {}", "// c\n1", "[1 2]", "\"a",
                           "NaN", "1e999", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\\ud800\"", "\"a\nb\""}) {
    EXPECT_THAT(error_of(text), StartsWith("place: not valid JSON")) << text;
  }
}

TEST(Json, NothingHidesBehindAZeroByte) {
  EXPECT_THAT(error_of(std::string_view("{}\0garbage", 10)), HasSubstr("zero byte at position 2"));
  EXPECT_THAT(error_of(std::string_view("{}\0", 3)), HasSubstr("zero byte"));
}

TEST(Json, DuplicateKeysAreRefusedAtAnyDepth) {
  EXPECT_EQ(error_of(R"({"a": 1, "b": 2, "a": 3})"), "place: JSON object has the key 'a' twice");
  EXPECT_THAT(error_of(R"([{"x": {"k": 1, "k": 1}}])"), HasSubstr("'k' twice"));
  EXPECT_THAT(error_of(R"({"a": 1, "\u0061": 2})"), HasSubstr("'a' twice"));
  EXPECT_EQ(error_of(R"({"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 1}]})"), "");
}

TEST(Json, DepthIsCountedExactly) {
  EXPECT_EQ(error_of(nested(3, '[', ']'), 3), "");
  EXPECT_THAT(error_of(nested(4, '[', ']'), 3), HasSubstr("deeper than 3"));
  EXPECT_EQ(error_of(R"({"a": {"a": [1]}})", 3), "");
  EXPECT_THAT(error_of(R"({"a": {"a": [{}]}})", 3), HasSubstr("deeper than 3"));
  EXPECT_THAT(error_of(std::string(10'000'000, '[')), HasSubstr("deeper than 32"));
}

TEST(Json, LargeIntegersBecomeFloats) {
  EXPECT_TRUE(parse_json("18446744073709551615", "place").is_number_unsigned());
  EXPECT_TRUE(parse_json("18446744073709551616", "place").is_number_float());
  EXPECT_FALSE(parse_json("-1", "place").is_number_unsigned());
}

TEST(Json, ValuesAndBytesAreCounted) {
  const std::string text = R"({"a": [1, {}], "b": null})";  // 5 values
  EXPECT_EQ(message_of<Error>([&] { parse_json(text, "place", {.values = 5}); }), "");
  EXPECT_THAT(message_of<Error>([&] { parse_json(text, "place", {.values = 4}); }), HasSubstr("more than 4 values"));
  EXPECT_EQ(message_of<Error>([&] { parse_json(text, "place", {.bytes = text.size()}); }), "");
  EXPECT_THAT(message_of<Error>([&] { parse_json(text, "place", {.bytes = text.size() - 1}); }),
              HasSubstr("of 25 bytes, more than the 24"));
}

// With a parser that looks at all siblings again at the end of each, this takes hours.
TEST(Json, SiblingsDoNotAddUp) {
  std::string list = "[{}";
  std::string object = "{\"k\": {}";
  for (int i = 0; i < 400'000; ++i) {
    list += ",{}";
    object += ",\"k" + std::to_string(i) + "\":{\"a\":[]}";
  }
  EXPECT_EQ(parse_json(list + "]", "place").size(), 400'001u);
  EXPECT_EQ(parse_json(object + "}", "place").size(), 400'001u);
}

TEST(Json, ForeignTextInMessagesIsEscaped) {
  EXPECT_EQ(error_of("{\"\\u001b[31m\": 1, \"\\u001b[31m\": 2}"), "place: JSON object has the key '\\x1b[31m' twice");
  EXPECT_EQ(error_of("\"\x1b[31m").find('\x1b'), std::string::npos);
}

TEST(Json, MessagesStayShort) {
  EXPECT_LT(error_of("\"" + std::string(100'000, 'x')).size(), 400u);
  const std::string key(100'000, 'k');
  EXPECT_LT(error_of("{\"" + key + "\": 1, \"" + key + "\": 2}").size(), 400u);
}

}  // namespace
}  // namespace switchyard
