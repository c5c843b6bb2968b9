#include "checkpoint/pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "tests/support/allocation_meter.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using testing::HasSubstr;
using torch::Tensor;

class Pieces : public testing::Test {
 protected:
  // Writes one file of raw tensors and shapes; its path.
  std::filesystem::path file(const TensorMap& tensors, const std::map<std::string, std::string>& shapes = {}) {
    const auto path = folder_ / std::to_string(paths_.size());
    write_safetensors(path, tensors, shapes);
    paths_.push_back(path);
    return path;
  }
  std::string error() const {
    try {
      TensorSource(paths_).read_all();
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "no error";
  }

  test::TemporaryFolder folder_;
  std::vector<std::filesystem::path> paths_;
};

Tensor range(int64_t begin, int64_t end) { return torch::arange(begin, end, torch::kFloat32); }

TEST_F(Pieces, PartsOfSeveralFilesBecomeWholeTensors) {
  const Tensor whole = range(0, 24).view({2, 3, 4});
  for (int64_t rank = 0; rank < 3; ++rank) {
    std::vector<TensorPiece> pieces = {{"split", whole.view(-1).narrow(0, 8 * rank, 8), {2, 3, 4}, 8 * rank}};
    if (rank == 1) pieces.push_back({"alone", range(0, 3), {3}});
    paths_.push_back(folder_ / std::to_string(rank));
    write_pieces(paths_.back(), pieces);
  }
  const TensorMap tensors = TensorSource(paths_).read_all();
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_TRUE(torch::equal(tensors.at("split"), whole));
  EXPECT_TRUE(torch::equal(tensors.at("alone"), range(0, 3)));
}

TEST_F(Pieces, APartIsReadByItself) {
  const Tensor whole = range(0, 24).view({2, 3, 4});
  for (int64_t rank = 0; rank < 3; ++rank) {
    paths_.push_back(folder_ / std::to_string(rank));
    write_pieces(paths_.back(), {{"split", whole.view(-1).narrow(0, 8 * rank, 8), {2, 3, 4}, 8 * rank}});
  }
  file({{"alone", whole}});
  const TensorSource of_files(paths_);
  const TensorSource of_memory(
      TensorMap{{"split", whole}, {"alone", whole.transpose(0, 2).contiguous().transpose(0, 2)}});
  int compared = 0;
  for (const TensorSource* source : {&of_files, &of_memory}) {
    for (const char* name : {"split", "alone"}) {
      EXPECT_EQ(source->tensors().at(name).shape, (std::vector<int64_t>{2, 3, 4}));
      for (int64_t begin = 0; begin < 24; ++begin) {
        for (int64_t end = begin; end <= 24; ++end, ++compared) {
          const Tensor part = torch::full({end - begin}, -1, torch::kFloat64);  // of another type
          source->read({name, part, {2, 3, 4}, begin});
          EXPECT_TRUE(torch::equal(part, range(begin, end).to(torch::kFloat64))) << name << begin << ":" << end;
        }
      }
      const Tensor strided = torch::zeros({4, 3, 2}).permute({2, 1, 0});
      source->read({name, strided, {2, 3, 4}});
      EXPECT_TRUE(torch::equal(strided, whole));
    }
  }
  EXPECT_EQ(compared, 4 * 324);
}

TEST_F(Pieces, OnlyWhatIsReadIsAllocated) {
  file({{"large", torch::zeros({1 << 20})}});
  const Tensor part = torch::ones({16});
  auto& meter = test::AllocationMeter::installed();
  const int64_t before = meter.live();
  meter.restart_peak();
  const TensorSource source(paths_);
  source.read({"large", part, {1 << 20}, 64});
  EXPECT_TRUE(torch::equal(part, torch::zeros({16})));
  EXPECT_LT(meter.peak() - before, 4096);
}

TEST_F(Pieces, ATensorThatIsNotAlignedInItsFileIsRead) {
  // A header of a length that is no multiple of 4, as other writers may leave it.
  const std::string header = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} )";
  ASSERT_NE((8 + header.size()) % 4, 0U);
  const uint64_t size = header.size();
  const float values[] = {1.5F, -2.0F};
  std::string bytes(reinterpret_cast<const char*>(&size), 8);
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(values), 8);
  paths_.push_back(folder_ / "odd");
  test::spill(paths_.back(), bytes);
  EXPECT_TRUE(torch::equal(TensorSource(paths_).read_all().at("x"), torch::tensor({1.5F, -2.0F})));
}

TEST_F(Pieces, ANameInBracketsThatIsNoPartIsAName) {
  file({{"odd[1:0]", range(0, 1)}, {"odd[a:b]", range(0, 2)}});
  EXPECT_EQ(TensorSource(paths_).read_all().size(), 2U);
}

TEST_F(Pieces, HolesOverlapsAndEndsAreNamed) {
  file({{"x[0:2]", range(0, 2)}}, {{"x", "[4]"}});
  EXPECT_THAT(error(), HasSubstr("'x': its parts end at element 2 of 4"));
  file({{"x[3:4]", range(0, 1)}}, {{"x", "[4]"}});
  EXPECT_THAT(error(), HasSubstr("the part 'x[3:4]' leaves a hole after element 2"));
  file({{"x[1:4]", range(0, 3)}}, {{"x", "[4]"}});
  EXPECT_THAT(error(), HasSubstr("the part 'x[1:4]' overlaps with element 2"));
}

TEST_F(Pieces, ContradictionsAreNamed) {
  file({{"x[0:2]", range(0, 2)}}, {{"x", "[4]"}});
  const auto second = file({{"x[2:4]", range(0, 2)}}, {{"x", "[2, 2]"}});
  EXPECT_THAT(error(), HasSubstr("its parts give different shapes"));
  write_safetensors(second, {{"x[2:4]", range(0, 2).to(torch::kFloat64)}}, {{"x", "[4]"}});
  EXPECT_THAT(error(), HasSubstr("its parts have different types"));
  write_safetensors(second, {{"x[2:4]", range(0, 3)}}, {{"x", "[4]"}});
  EXPECT_THAT(error(), HasSubstr("its size is not that of its name"));
  write_safetensors(second, {{"x[2:4]", range(0, 2)}, {"x", range(0, 4)}}, {{"x", "[4]"}});
  EXPECT_THAT(error(), HasSubstr("it is there whole and in parts"));
  write_safetensors(second, {{"x[2:4]", range(0, 2)}, {"y", range(0, 4)}}, {{"x", "[4]"}});
  file({{"y", range(0, 4)}});
  EXPECT_THAT(error(), HasSubstr("'y': another file holds it too"));
}

TEST_F(Pieces, ShapesAreReadAsIfByAnEnemy) {
  const auto path = file({{"x[0:2]", range(0, 2)}});
  EXPECT_THAT(error(), HasSubstr("holds a part of it, but not its shape"));
  for (const char* shape : {"{}", "[-2]", "[2.0]", "[\"2\"]", "[2147483648]", "[2000000000, 2000000000, 2000000000]"}) {
    write_safetensors(path, {{"x[0:2]", range(0, 2)}}, {{"x", shape}});
    EXPECT_THAT(error(), HasSubstr("is no list of sizes")) << shape;
  }
  write_safetensors(path, {{"x[0:2]", range(0, 2)}}, {{"x", "[2000000000, 2000000000]"}});
  EXPECT_THAT(error(), HasSubstr("its parts end at element 2 of 4000000000000000000"));
  write_safetensors(path, {{"x[0:2]", range(0, 2)}}, {{"x", "[2"}});
  EXPECT_THAT(error(), HasSubstr(path.string()));
}

}  // namespace
}  // namespace switchyard
