#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/errors.h"
#include "checkpoint/safetensors.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::little_endian;
using test::message_of;
using test::safetensors_bytes;
using test::spill;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_of(std::string_view file) {
  return message_of<CheckpointError>(
      [&] { parse_safetensors_header(std::as_bytes(std::span(file.data(), file.size())), "file"); });
}

struct Lie {
  const char* header;
  size_t data_size;
  const char* message;
};

class SafetensorsLies : public ::testing::TestWithParam<Lie> {};

TEST_P(SafetensorsLies, AreRefusedWithAReason) {
  const std::string error = error_of(safetensors_bytes(GetParam().header, GetParam().data_size));
  EXPECT_THAT(error, AllOf(StartsWith("file: "), HasSubstr(GetParam().message))) << GetParam().header;
}

const Lie kOffsetLies[] = {
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", 5, "hole"},
    {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})", 5,
     "'b' begins at byte 3, leaving a hole after byte 2"},
    {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})", 5,
     "'b' begins at byte 2, overlapping what ends at byte 3"},
    {R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}})", 5,
     "overlapping"},
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})", 4,
     "overlapping"},
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5, "has 5 bytes, but its tensors end at byte 4"},
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3, "beyond the data section of 3 bytes"},
    {R"({})", 1, "has 1 bytes, but its tensors end at byte 0"},
    {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}})", 0, "beyond the data section"},
    {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[4,2]}})", 4, "end before they begin"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}})", 1, "end before they begin"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}})", 1, "beyond the data section"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616]}})", 1, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}})", 1, "its begin is '-1', not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1.0]}})", 1, "its end is '1.0', not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1e0]}})", 1, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,"1"]}})", 1, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,null]}})", 1, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "not a list of two"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}})", 1, "not a list of two"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":{"0":0,"1":1}}})", 1, "not a list of two"},
    {R"({"a":{"dtype":"U8","shape":[1]}})", 1, "'data_offsets' is missing"},
};
INSTANTIATE_TEST_SUITE_P(Offsets, SafetensorsLies, ::testing::ValuesIn(kOffsetLies));

const Lie kShapeLies[] = {
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "are 4, but its shape and dtype need 8"},
    {R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,0]}})", 0, "are 0, but its shape and dtype need 4"},
    {R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}})", 4, "are 4, but its shape and dtype need 0"},
    {R"({"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,5]}})", 5, "are 5, but its shape and dtype need 6"},
    {R"({"a":{"dtype":"U8","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0, "overflows"},
    {R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "overflows"},
    {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0, "overflows"},
    {R"({"a":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})", 0, "overflows"},
    {R"({"a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", 0, "overflows"},
    {R"({"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0]}})", 0, "is too large"},
    {R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1, "is too large"},
    {R"({"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,0]}})", 0, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1]}})", 1, "need 1099511627776"},
    {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "a dimension is '-1'"},
    {R"({"a":{"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]}})", 1, "a dimension is '-1'"},
    {R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "a dimension is '1.0'"},
    {R"({"a":{"dtype":"U8","shape":[1e2],"data_offsets":[0,100]}})", 100, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", 1, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}})", 1, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "not a whole number"},
    {R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "shape is number, not a list"},
    {R"({"a":{"dtype":"U8","shape":null,"data_offsets":[0,1]}})", 1, "shape is null, not a list"},
    {R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "'shape' is missing"},
};
INSTANTIATE_TEST_SUITE_P(Shapes, SafetensorsLies, ::testing::ValuesIn(kShapeLies));

const Lie kOtherLies[] = {
    {R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype 'F8_E4M3'; known are F64, F32"},
    {R"({"a":{"dtype":"u8","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype 'u8'"},
    {R"({"a":{"dtype":"","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype ''"},
    {R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype is number, not a string"},
    {R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, "'dtype' is missing"},
    {R"({"a":1})", 1, "tensor 'a': its entry is number, not an object"},
    {R"({"a":null})", 0, "its entry is null"},
    {R"({"a":[]})", 0, "its entry is array"},
    {R"({"__metadata__":{"a":1}})", 0, "__metadata__ entry 'a' is number, not a string"},
    {R"({"__metadata__":{"a":null}})", 0, "not a string"},
    {R"({"__metadata__":{"a":{"b":"c"}}})", 0, "not a string"},
    {R"({"__metadata__":[]})", 0, "__metadata__ is array, not an object"},
    {R"({"__metadata__":"text"})", 0, "__metadata__ is string, not an object"},
    {R"({"__metadata__":null})", 0, "__metadata__ is null, not an object"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
     "'a' twice"},
    {R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, "'dtype' twice"},
    {R"({"__metadata__":{},"__metadata__":{}})", 0, "'__metadata__' twice"},
    {R"({"__metadata__":{"k":"1","k":"2"}})", 0, "'k' twice"},
    {R"({"a":[[[[[[[[1]]]]]]]]})", 0, "deeper than 4"},
    {R"([])", 0, "does not start with '{'"},
    {R"( {})", 0, "does not start with '{'"},
    {"\xef\xbb\xbf{}", 0, "does not start with '{'"},
    {"null", 0, "does not start with '{'"},
    {"{", 0, "not valid JSON"},
    {"{}}", 0, "not valid JSON"},
    {"{},", 0, "not valid JSON"},
    {"{} x", 0, "not valid JSON"},
    {"{/*c*/}", 0, "not valid JSON"},
    {"{'a':1}", 0, "not valid JSON"},
    {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not valid JSON"},
    {"{\"\xc3(\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not valid JSON"},
    {R"({"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "not valid JSON"},
    {R"({"a":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}})", 1, "not valid JSON"},
    {R"({"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}})", 1, "not valid JSON"},
    {R"({"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}})", 1, "not valid JSON"},
};
INSTANTIATE_TEST_SUITE_P(Others, SafetensorsLies, ::testing::ValuesIn(kOtherLies));

TEST(SafetensorsMalformed, HeaderLengths) {
  const std::string valid = safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1);
  ASSERT_EQ(error_of(valid), "");
  const auto with_length = [&](uint64_t length) { return little_endian(length) + valid.substr(8); };
  EXPECT_THAT(error_of(with_length(0)), HasSubstr("header is empty"));
  EXPECT_THAT(error_of(with_length(std::numeric_limits<uint64_t>::max())), HasSubstr("18446744073709551615 bytes"));
  EXPECT_THAT(error_of(with_length(uint64_t{1} << 63)), HasSubstr("more than the 100000000 allowed"));
  EXPECT_THAT(error_of(with_length(100'000'001)), HasSubstr("more than the 100000000 allowed"));
  EXPECT_THAT(error_of(with_length(100'000'000)), HasSubstr("only 54 follow"));
  EXPECT_THAT(error_of(with_length(valid.size() - 7)), HasSubstr("follow"));
  EXPECT_THAT(error_of(with_length(valid.size() - 8)), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(with_length(1)), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(std::string_view("\x01\0\0", 3)), HasSubstr("3 bytes in all"));
  EXPECT_THAT(error_of(""), HasSubstr("0 bytes in all"));
  EXPECT_THAT(error_of(std::string(8, '\0')), HasSubstr("header is empty"));
}

TEST(SafetensorsMalformed, ZeroBytesHideNothing) {
  EXPECT_THAT(error_of(safetensors_bytes(std::string_view("{}\0\0\0\0\0\0", 8), 0)), HasSubstr("zero byte"));
}

TEST(SafetensorsMalformed, DeepNestingIsRefusedWithoutRecursion) {
  std::string header = R"({"a":)";
  header.append(1'000'000, '[');
  EXPECT_THAT(error_of(safetensors_bytes(header, 0)), HasSubstr("deeper"));
}

TEST(SafetensorsMalformed, AMillionDimensionsAreRefusedInAFewWords) {
  std::string header = R"({"a":{"dtype":"U8","shape":[1)";
  for (int i = 1; i < 1'000'000; ++i) header += ",1";
  const std::string error = error_of(safetensors_bytes(header + R"(],"data_offsets":[0,1]}})", 1));
  EXPECT_EQ(error, "file: tensor 'a': its shape has 1000000 dimensions, more than 64");
}

TEST(SafetensorsMalformed, ManyTensorsAreReadInNoTime) {
  std::string header = "{";
  for (int i = 0; i < 40'000; ++i) {
    const std::string at = std::to_string(i);
    header += (i == 0 ? "\"t" : ",\"t") + at + R"(":{"dtype":"U8","shape":[1,1],"data_offsets":[)" + at + "," +
              std::to_string(i + 1) + "]}";
  }
  EXPECT_EQ(error_of(safetensors_bytes(header + "}", 40'000)), "");
}

// 90 MB of numbers would take 2.6 GB.
TEST(SafetensorsMalformed, ValuesAreCounted) {
  std::string header = R"({"a":[)";
  for (int i = 0; i < 5'000'000; ++i) header += "1,";
  EXPECT_THAT(error_of(safetensors_bytes(header + "1]}", 0)), HasSubstr("JSON holds more than 4194304 values"));
}

TEST(SafetensorsMalformed, MessagesAreShortAndOnOneLine) {
  const std::string name(50'000, 'n');
  const std::string error = error_of(safetensors_bytes("{\"" + name + "\\n\":1}", 0));
  EXPECT_LT(error.size(), 400u);
  EXPECT_THAT(error_of(safetensors_bytes(R"({"a\nb\u001b[31m":1})", 0)), HasSubstr(R"('a\x0ab\x1b[31m')"));
}

TensorMap example() {
  return {{"weight", torch::arange(6, torch::kFloat32).reshape({2, 3})},
          {"bias", torch::ones({3}, torch::kBFloat16)},
          {"empty", torch::zeros({0, 4})},
          {"steps", torch::tensor(7)}};
}

// What a file that is accepted must fulfil, whatever was done to it: loading then stays inside it.
void expect_consistent(const SafetensorsFile& file, size_t file_size) {
  uint64_t bytes = 0;
  for (const auto& [name, info] : file.tensors()) bytes += info.end - info.begin;
  EXPECT_LT(bytes, file_size);
  for (const auto& [name, tensor] : file.load_all()) {
    EXPECT_EQ(tensor.nbytes(), file.tensors().at(name).end - file.tensors().at(name).begin);
  }
}

class SafetensorsDamage : public ::testing::Test {
 protected:
  SafetensorsDamage() {
    write_safetensors(folder_ / "file", example(), {{"format", "pt"}});
    bytes_ = test::slurp(folder_ / "file");
  }

  // 1 if the damaged file is refused (by a CheckpointError: anything else fails the test), else 0.
  int refused(const std::string& damaged) {
    spill(folder_ / "damaged", damaged);
    try {
      expect_consistent(SafetensorsFile(folder_ / "damaged"), damaged.size());
      return 0;
    } catch (const CheckpointError&) {
      return 1;
    }
  }

  TemporaryFolder folder_;
  std::string bytes_;
};

TEST_F(SafetensorsDamage, EveryCutIsRefused) {
  ASSERT_EQ(refused(bytes_), 0);
  for (size_t size = 0; size < bytes_.size(); ++size) EXPECT_EQ(refused(bytes_.substr(0, size)), 1) << size;
  for (size_t more = 1; more < 20; ++more) EXPECT_EQ(refused(bytes_ + std::string(more, '\0')), 1) << more;
}

TEST_F(SafetensorsDamage, EveryRemovedByteIsRefused) {
  int count = 0;
  for (size_t i = 0; i < bytes_.size(); ++i) count += refused(bytes_.substr(0, i) + bytes_.substr(i + 1));
  EXPECT_EQ(count, static_cast<int>(bytes_.size()));  // a byte is missing at the end, always
}

TEST_F(SafetensorsDamage, FlippedBitsAreRefusedOrHarmless) {
  int count = 0;
  for (size_t bit = 0; bit < 8 * bytes_.size(); ++bit) {
    std::string damaged = bytes_;
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    count += refused(damaged);
  }
  EXPECT_GT(count, 1900);  // all that are no name, text, dtype of the same width, or value
}

// Every number of the header replaced by every awkward one.
TEST_F(SafetensorsDamage, EveryNumberLies) {
  const std::vector<std::string> lies = {"0",
                                         "1",
                                         "-1",
                                         "5",
                                         "1.5",
                                         "1e1",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "null",
                                         "\"1\"",
                                         "[]",
                                         "{}"};
  const size_t header_end = bytes_.rfind('}') + 1;
  const size_t data_begin = (header_end + 7) / 8 * 8;
  int count = 0, total = 0;
  for (size_t i = 8; i < header_end; ++i) {
    if (std::isdigit(static_cast<unsigned char>(bytes_[i])) == 0 || (bytes_[i - 1] != '[' && bytes_[i - 1] != ','))
      continue;
    const size_t end = bytes_.find_first_of(",]", i);
    for (const std::string& lie : lies) {
      if (lie == bytes_.substr(i, end - i)) continue;
      const std::string header = bytes_.substr(8, i - 8) + lie + bytes_.substr(end, header_end - end);
      count += refused(little_endian(header.size()) + header + bytes_.substr(data_begin));
      ++total;
    }
  }
  EXPECT_GT(total, 150);
  EXPECT_EQ(count, total - 3);  // the 4 of the shape [0, 4] may be 0, 1 or 5: nothing is stored for it
}

}  // namespace
}  // namespace switchyard
