#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::little_endian;
using test::message_of;
using test::slurp;
using test::spill;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

TensorMap round_trip(const TensorMap& tensors) {
  TemporaryFolder folder;
  write_safetensors(folder / "file", tensors);
  return SafetensorsFile(folder / "file").load_all();
}

// The same values, bit for bit (NaN too), of the same shape and dtype.
void expect_identical(const torch::Tensor& found, const torch::Tensor& expected) {
  ASSERT_EQ(found.scalar_type(), expected.scalar_type());
  ASSERT_EQ(found.sizes(), expected.sizes());
  EXPECT_TRUE(found.is_contiguous());
  const torch::Tensor plain = expected.contiguous();
  EXPECT_EQ(std::string_view(static_cast<const char*>(found.const_data_ptr()), found.nbytes()),
            std::string_view(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()));
}

TEST(Safetensors, LayoutByteByByte) {
  TemporaryFolder folder;
  const TensorMap tensors = {
      {"a", torch::tensor({1, -2}, torch::kInt8)},
      {"b", torch::tensor({{1.0f, -2.0f}})},
      {"c", torch::tensor(3.0, torch::kFloat64)},
      {"d", torch::tensor({1.5}, torch::kBFloat16)},
  };
  const FileDigest digest = write_safetensors(folder / "file", tensors, {{"format", "pt"}});
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("c":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},)"
                       R"("d":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]},)"
                       R"("a":{"dtype":"I8","shape":[2],"data_offsets":[18,20]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::string data("\0\0\0\0\0\0\x08\x40\0\0\x80\x3f\0\0\0\xc0\xc0\x3f\x01\xfe", 20);
  const std::string bytes = slurp(folder / "file");
  EXPECT_EQ(bytes, little_endian(header.size()) + header + data);
  EXPECT_EQ(digest.bytes, bytes.size());
  EXPECT_EQ(digest.checksum, checksum(bytes));
}

TEST(Safetensors, ReadsWhatOthersWrite) {
  TemporaryFolder folder;
  const std::string header =
      " {\"x\" : {\"shape\": [2], \"data_offsets\": [0, 4], \"dtype\": \"I16\"}, \"__metadata__\": {\"k\": \"v\"}}\n";
  spill(folder / "file", little_endian(header.size() - 1) + header.substr(1) + std::string("\x02\0\xff\xff", 4));
  const SafetensorsFile file(folder / "file");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"k", "v"}}));
  expect_identical(file.load("x"), torch::tensor({2, -1}, torch::kInt16));
}

TEST(Safetensors, RoundTripsEveryDtypeAndShape) {
  torch::manual_seed(1);
  TensorMap tensors;
  for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kInt64,
                           torch::kInt32, torch::kInt16, torch::kInt8, torch::kUInt8, torch::kBool}) {
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{}, {1}, {5}, {3, 4, 2}, {0}, {2, 0}}) {
      const std::string name = c10::toString(dtype) + std::to_string(tensors.size());
      tensors[name] = (torch::randn(shape) * 3).to(dtype);
    }
  }
  const TensorMap found = round_trip(tensors);
  ASSERT_EQ(found.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    expect_identical(found.at(name), tensor);
  }
}

TEST(Safetensors, RoundTripsAnyStridesAndLeavesTheTensorsAlone) {
  const torch::Tensor base = torch::arange(24, torch::kFloat32).reshape({2, 3, 4});
  const torch::Tensor parameter = torch::ones({3}).requires_grad_();
  const TensorMap tensors = {{"transposed", base.transpose(0, 2)},
                             {"slice", base.slice(2, 1, 4, 2)},
                             {"expanded", base[0][0].expand({5, 4})},
                             {"offset", base[1]},
                             {"parameter", parameter}};
  const TensorMap found = round_trip(tensors);
  for (const auto& [name, tensor] : tensors) expect_identical(found.at(name), tensor.detach());
  EXPECT_FALSE(found.at("parameter").requires_grad());
  EXPECT_TRUE(parameter.requires_grad());
}

TEST(Safetensors, KeepsTheBitsOfSpecialValues) {
  const double inf = std::numeric_limits<double>::infinity();
  const TensorMap tensors = {{"x", torch::tensor({std::nan(""), inf, -inf, -0.0, 5e-324})}};
  expect_identical(round_trip(tensors).at("x"), tensors.at("x"));
}

TEST(Safetensors, NoTensorsAtAll) { EXPECT_TRUE(round_trip({}).empty()); }

TEST(Safetensors, NamesMayBeAnyUtf8) {
  const TensorMap tensors = {{"ключ \"quoted\" \\ \n", torch::ones({2})}, {"", torch::zeros({1})}};
  const TensorMap found = round_trip(tensors);
  ASSERT_EQ(found.size(), 2u);
  expect_identical(found.at("ключ \"quoted\" \\ \n"), torch::ones({2}));
}

TEST(Safetensors, LoadedTensorsOwnTheirMemory) {
  TemporaryFolder folder;
  torch::Tensor tensor;
  {
    write_safetensors(folder / "file", {{"x", torch::ones({4})}});
    tensor = SafetensorsFile(folder / "file").load("x");
  }
  tensor.add_(1);
  EXPECT_EQ(tensor.sum().item<float>(), 8.0f);
}

TEST(Safetensors, RefusesWhatTheFormatLacks) {
  TemporaryFolder folder;
  const auto error = [&](const std::string& name, const torch::Tensor& tensor) {
    return message_of<CheckpointError>([&] { write_safetensors(folder / "file", {{name, tensor}}); });
  };
  EXPECT_THAT(error("x", torch::ones({2}, torch::kComplexFloat)), AllOf(HasSubstr("'x'"), HasSubstr("ComplexFloat")));
  EXPECT_THAT(error("x", torch::Tensor()), HasSubstr("'x' is undefined"));
  EXPECT_THAT(error("x", torch::ones({2, 2}).to_sparse()), HasSubstr("sparse"));
  EXPECT_THAT(error("x", torch::ones({2}, torch::kMeta)), HasSubstr("meta"));
  EXPECT_THAT(error("__metadata__", torch::ones({2})), HasSubstr("reserved"));
  EXPECT_THAT(error("\xff", torch::ones({2})), HasSubstr("UTF-8"));
  EXPECT_FALSE(std::filesystem::exists(folder / "file"));
}

TEST(Safetensors, ErrorsOfFilesNameThem) {
  TemporaryFolder folder;
  const std::string path = (folder / "no" / "file").string();
  EXPECT_THAT(message_of<CheckpointError>([&] { write_safetensors(path, {}); }), HasSubstr(path));
  EXPECT_THAT(message_of<CheckpointError>([&] { SafetensorsFile file(path); }), HasSubstr(path));
  EXPECT_THAT(message_of<CheckpointError>([&] { SafetensorsFile file(folder.path()); }), HasSubstr("regular file"));
}

TEST(Safetensors, UnknownNamesAndOddBooleansAreTold) {
  TemporaryFolder folder;
  write_safetensors(folder / "file", {{"flag", torch::ones({3}, torch::kBool)}});
  EXPECT_THAT(message_of<CheckpointError>([&] { SafetensorsFile(folder / "file").load("other"); }),
              HasSubstr("'other' is not in this file"));
  std::string bytes = slurp(folder / "file");
  bytes.back() = '\x02';
  spill(folder / "file", bytes);
  EXPECT_THAT(message_of<CheckpointError>([&] { SafetensorsFile(folder / "file").load("flag"); }), HasSubstr("BOOL"));
}

}  // namespace
}  // namespace switchyard
