#include "data/tokenizer.h"

#include <algorithm>

#include "base/utf8.h"
#include "data/base64.h"
#include "tests/data/tokenizer_helpers.h"

namespace switchyard {
namespace {

using test::expect_data_error;
using test::expect_round_trip;
using test::small_sentencepiece;

TEST(Utf8, TakesAllCodePointsAndNothingElse) {
  for (const uint32_t code_point :
       {0x0u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xD7FFu, 0xE000u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text;
    append_utf8(text, code_point);
    const Utf8Character character = read_utf8(text, 0);
    EXPECT_TRUE(character.valid);
    EXPECT_EQ(character.code_point, code_point);
    EXPECT_EQ(static_cast<size_t>(character.length), text.size());
    if (text.size() > 1) {
      EXPECT_FALSE(read_utf8(text.substr(0, text.size() - 1), 0).valid);
    }
  }
  for (const char* bad : {"\x80", "\xC1\x81", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x28\xA1", "\xFF"}) {
    const Utf8Character character = read_utf8(bad, 0);
    EXPECT_FALSE(character.valid);
    EXPECT_EQ(character.length, 1);
    EXPECT_EQ(character.code_point, 0xFFFDu);
  }
}

TEST(Base64, VectorsOfRfc4648) {
  const std::vector<std::pair<std::string, std::string>> vectors = {{"", ""},
                                                                    {"f", "Zg=="},
                                                                    {"fo", "Zm8="},
                                                                    {"foo", "Zm9v"},
                                                                    {"foob", "Zm9vYg=="},
                                                                    {"fooba", "Zm9vYmE="},
                                                                    {"foobar", "Zm9vYmFy"},
                                                                    {"\xFB\xFF", "+/8="}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(encode_base64(bytes), text);
    EXPECT_EQ(decode_base64(text, "here"), bytes);
  }
  for (const char* bad : {"Zg=", "Zg", "Z===", "Zh==", "Zm9=", "Zm 9", "====", "Zg==Zg==", "Zm9v\n", "=m9v", "Zm-_"}) {
    expect_data_error([&] { decode_base64(bad, "here"); }, {"here"});
  }
}

TEST(ByteTokenizer, HandValues) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_THAT(tokenizer->encode("a\xFF\n"), testing::ElementsAre(97, 255, 10));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{104, 256, 105}), "hi");
  expect_data_error([&] { tokenizer->decode(std::vector<int32_t>{257}); }, {"257"});
  expect_data_error([&] { tokenizer->decode(std::vector<int32_t>{-1}); }, {"-1"});
  expect_round_trip(*tokenizer);
}

TEST(CharTokenizer, HandValues) {
  const auto tokenizer = make_char_tokenizer(std::vector<std::string_view>{"ba\n", "\xC3\xA9"});  // é
  EXPECT_EQ(tokenizer->vocab_size(), 6);  // \n a b é unknown end
  EXPECT_EQ(tokenizer->end_of_text(), 5);
  EXPECT_THAT(tokenizer->encode("b\xC3\xA9\na"), testing::ElementsAre(2, 3, 0, 1));
  EXPECT_THAT(tokenizer->encode("z\xFF"
                                "a"),
              testing::ElementsAre(4, 4, 1));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{3, 5, 2, 4}),
            "\xC3\xA9"
            "b\xEF\xBF\xBD");
  expect_data_error([&] { tokenizer->decode(std::vector<int32_t>{6}); }, {"6", "vocabulary of 6"});
  EXPECT_EQ(tokenizer->serialize(), R"({"characters":[10,97,98,233],"type":"char"})");
  EXPECT_EQ(deserialize_tokenizer(tokenizer->serialize(), "x")->encode("ab"), tokenizer->encode("ab"));
  expect_data_error([] { make_char_tokenizer({}); }, {"at least one character"});
}

TEST(CharTokenizer, BytesThatAreNotUtf8BecomeTheReplacementCharacter) {
  const auto tokenizer = make_char_tokenizer(std::vector<std::string_view>{"a\x80\x81"});
  EXPECT_EQ(tokenizer->vocab_size(), 4);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("\xFE"
                                                "a")),
            "\xEF\xBF\xBD"
            "a");
}

TEST(Deserialize, NamesWhatIsWrong) {
  const auto expect = [](const std::string& text, const std::string& message) {
    expect_data_error([&] { deserialize_tokenizer(text, "tok.json"); }, {"tok.json", message});
  };
  expect("", "JSON");
  expect("[]", "type");
  expect("{}", "type");
  expect("null", "type");
  expect(R"({"type":7})", "must be a string");
  expect(R"({"type":"word"})", "unknown tokenizer type 'word'");
  expect(R"({"type":"byte","type":"byte"})", "twice");
  expect(R"({"type":"byte","extra":1})", "unknown key 'extra'");
  expect(R"({"type":"char"})", "'characters' is missing");
  expect(R"({"type":"char","characters":[]})", "at least one");
  expect(R"({"type":"char","characters":"abc"})", "list");
  expect(R"({"type":"char","characters":[98,97]})", "entry 1");
  expect(R"({"type":"char","characters":[97,97]})", "entry 1");
  expect(R"({"type":"char","characters":[-1]})", "entry 0");
  expect(R"({"type":"char","characters":[1.5]})", "entry 0");
  expect(R"({"type":"char","characters":["a"]})", "entry 0");
  expect(R"({"type":"char","characters":[55296]})", "entry 0");
  expect(R"({"type":"char","characters":[97,1114112]})", "entry 1");
  expect(R"({"type":"char","characters":[18446744073709551615]})", "entry 0");
  expect(R"({"type":"char","characters":[4294967393]})", "entry 0");
  expect(R"({"type":"char","characters":[97],"model":""})", "unknown key 'model'");
  expect(R"({"type":"sentencepiece"})", "'model' is missing");
  expect(R"({"type":"sentencepiece","model":[]})", "must be a string");
  expect(R"({"type":"sentencepiece","model":""})", "");
  expect(R"({"type":"sentencepiece","model":"Zg"})", "base64");
  expect(R"({"type":"sentencepiece","model":"!!!!"})", "base64");
  expect(R"({"type":"sentencepiece","model":"Zm9v"})", "SentencePiece");
  expect(std::string(1000, '['), "nested");
}

TEST(Deserialize, MalformedTextsAreDataErrors) {
  const std::vector<std::string> good = {
      make_byte_tokenizer()->serialize(),
      make_char_tokenizer(std::vector<std::string_view>{"hello w\xC3\xB6rld"})->serialize(),
      small_sentencepiece()->serialize()};
  for (const std::string& text : good) {
    const size_t step = std::max<size_t>(1, text.size() / 60);
    for (size_t size = 0; size < text.size(); size += step) {
      expect_data_error([&] { deserialize_tokenizer(text.substr(0, size), "cut"); }, {"cut"});
    }
  }
  test::Words words(5);
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    std::string text = good[static_cast<size_t>(round) % good.size()];
    const size_t reach = round % 2 == 0 ? std::min<size_t>(text.size(), 40) : text.size();
    text[words.below(reach)] = static_cast<char>(words.next());
    try {
      const auto tokenizer = deserialize_tokenizer(text, "flipped");
      tokenizer->decode(tokenizer->encode("hello"));
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace switchyard
