#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/errors.h"
#include "tests/checkpoint/example_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::example_checkpoint;
using test::expect_equal;
using test::message_of;
using test::slurp;
using test::spill;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kFiles = {"config.yaml",           "manifest.json",   "model.safetensors",
                                         "optimizer.safetensors", "tokenizer.model", "trainer.json"};

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::string load_error(const std::filesystem::path& path, const LoadOptions& options = {}) {
  return message_of<CheckpointError>([&] { load_checkpoint(path, options); });
}

TEST(Checkpoint, RoundTrips) {
  TemporaryFolder folder;
  const Checkpoint checkpoint = example_checkpoint(500);
  const auto path = save_checkpoint(folder / "run" / "checkpoints", checkpoint, 0);
  EXPECT_EQ(path, folder / "run" / "checkpoints" / "step-00000500");
  EXPECT_EQ(names_in(path), kFiles);
  EXPECT_THAT(names_in(folder / "run" / "checkpoints"), ElementsAre("step-00000500"));
  expect_equal(load_checkpoint(path), checkpoint);
  verify_checkpoint(path);
}

TEST(Checkpoint, EmptyPartsAreFine) {
  TemporaryFolder folder;
  const auto path = save_checkpoint(folder.path(), Checkpoint{}, 0);
  EXPECT_EQ(path.filename(), "step-00000000");
  expect_equal(load_checkpoint(path), Checkpoint{});
}

TEST(Checkpoint, TrainerNumbersComeBackExactly) {
  TemporaryFolder folder;
  Checkpoint checkpoint = example_checkpoint(1);
  checkpoint.trainer = {{"window", {0.1, 1e-310, 1.0 / 3, 12345678901234567.0}},
                        {"seed", std::numeric_limits<uint64_t>::max()},
                        {"low", std::numeric_limits<int64_t>::min()}};
  const Json found = load_checkpoint(save_checkpoint(folder.path(), checkpoint, 0)).trainer;
  EXPECT_EQ(found, checkpoint.trainer);
  EXPECT_EQ(found["seed"].get<uint64_t>(), std::numeric_limits<uint64_t>::max());
}

TEST(Checkpoint, WhatCannotBeReadBackIsNotSaved) {
  TemporaryFolder folder;
  const auto error = [&](const Checkpoint& checkpoint) {
    return message_of<CheckpointError>([&] { save_checkpoint(folder.path(), checkpoint, 0); });
  };
  Checkpoint checkpoint = example_checkpoint(1);
  checkpoint.trainer["loss"] = std::nan("");
  EXPECT_THAT(error(checkpoint), AllOf(HasSubstr("trainer.json"), HasSubstr("not finite")));
  checkpoint.trainer["loss"] = "\xff";
  EXPECT_THAT(error(checkpoint), HasSubstr("UTF-8"));
  for (const char* name : {"../a", "/a", "a/b", "", ".", "..", "manifest.json", "model.safetensors", "trainer.json"}) {
    checkpoint = example_checkpoint(1);
    checkpoint.files[name] = "text";
    EXPECT_THAT(error(checkpoint), HasSubstr("cannot hold a file named")) << name;
  }
  checkpoint = example_checkpoint(-1);
  EXPECT_THAT(error(checkpoint), HasSubstr("step -1"));
  checkpoint = example_checkpoint(1);
  checkpoint.model["odd"] = torch::ones({1}, torch::kComplexFloat);
  EXPECT_THAT(error(checkpoint), AllOf(HasSubstr("model.safetensors"), HasSubstr("'odd'")));
  EXPECT_THAT(message_of<CheckpointError>([&] { save_checkpoint(folder.path(), example_checkpoint(1), -1); }),
              HasSubstr("keep the last -1"));
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(Checkpoint, WithoutTheOptimizerItsFileIsNotRead) {
  TemporaryFolder folder;
  const auto path = save_checkpoint(folder.path(), example_checkpoint(3), 0);
  std::string bytes = slurp(path / "optimizer.safetensors");
  bytes.back() ^= 1;
  spill(path / "optimizer.safetensors", bytes);
  const Checkpoint found = load_checkpoint(path, {.optimizer = false});
  EXPECT_TRUE(found.optimizer.empty());
  expect_equal(found.model, example_checkpoint(3).model);
  EXPECT_THAT(load_error(path), HasSubstr("optimizer.safetensors: wrong checksum"));
  spill(path / "optimizer.safetensors", bytes + "x");
  EXPECT_THAT(load_error(path, {.optimizer = false}), HasSubstr("optimizer.safetensors: the file has"));
  std::filesystem::remove(path / "optimizer.safetensors");
  EXPECT_THAT(load_error(path, {.optimizer = false}), HasSubstr("optimizer.safetensors: the file is missing"));
}

class DamagedCheckpoint : public ::testing::TestWithParam<std::string> {
 protected:
  TemporaryFolder folder_;
  std::filesystem::path path_ = save_checkpoint(folder_.path(), example_checkpoint(7), 0);
  std::string bytes_ = slurp(path_ / GetParam());

  void expect_refused(const std::string& reason) {
    const std::string file = (path_ / GetParam()).string();
    EXPECT_THAT(load_error(path_), AllOf(HasSubstr(GetParam()), HasSubstr(path_.string()), HasSubstr(reason)));
    EXPECT_THAT(message_of<CheckpointError>([&] { verify_checkpoint(path_); }), HasSubstr(GetParam()));
    EXPECT_THAT(message_of<CheckpointError>([&] { find_latest_checkpoint(folder_.path()); }),
                HasSubstr("none of the 1 checkpoints"));
  }
};

TEST_P(DamagedCheckpoint, OneFlippedBitIsFound) {
  for (const size_t at : {size_t{0}, bytes_.size() / 3, bytes_.size() / 2, bytes_.size() - 2}) {
    std::string damaged = bytes_;
    damaged[at] ^= static_cast<char>(1 << at % 8);
    spill(path_ / GetParam(), damaged);
    expect_refused(GetParam() == "manifest.json" ? "" : "wrong checksum");
  }
  spill(path_ / GetParam(), bytes_);
  expect_equal(load_checkpoint(path_), example_checkpoint(7));
}

TEST_P(DamagedCheckpoint, CutsAndTrailingBytesAreFound) {
  for (const std::string& damaged : {bytes_.substr(0, bytes_.size() - 2), std::string(), bytes_ + "x"}) {
    spill(path_ / GetParam(), damaged);
    expect_refused(GetParam() == "manifest.json" ? "" : "manifest.json lists it with");
  }
}

TEST_P(DamagedCheckpoint, MissingFilesAreNamed) {
  std::filesystem::remove(path_ / GetParam());
  expect_refused("missing");
}

TEST_P(DamagedCheckpoint, LinksAndFoldersAreRefused) {
  std::filesystem::rename(path_ / GetParam(), folder_ / "elsewhere");
  std::filesystem::create_symlink(folder_ / "elsewhere", path_ / GetParam());
  expect_refused("it is a link");
  std::filesystem::remove(path_ / GetParam());
  std::filesystem::create_directory(path_ / GetParam());
  expect_refused("no regular file");
}

INSTANTIATE_TEST_SUITE_P(Files, DamagedCheckpoint, ::testing::ValuesIn(kFiles),
                         [](const auto& info) { return info.param.substr(0, info.param.find('.')); });

TEST(Checkpoint, MissingFoldersAreNamed) {
  TemporaryFolder folder;
  EXPECT_THAT(load_error(folder / "nothing"), HasSubstr((folder / "nothing").string()));
}

TEST(Checkpoint, AFolderMayBeRenamedOrReachedThroughALink) {
  TemporaryFolder folder;
  const auto path = save_checkpoint(folder.path(), example_checkpoint(7), 0);
  std::filesystem::rename(path, folder / "best");
  std::filesystem::create_directory_symlink(folder / "best", folder / "link");
  expect_equal(load_checkpoint(folder / "best"), example_checkpoint(7));
  expect_equal(load_checkpoint(folder / "link"), example_checkpoint(7));
}

}  // namespace
}  // namespace switchyard
