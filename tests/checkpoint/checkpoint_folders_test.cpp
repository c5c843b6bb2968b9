// Which checkpoints stay, which one is taken, and what a user's path means.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/logging.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/step_folders.h"
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
using ::testing::Not;

class CheckpointFolders : public ::testing::Test {
 protected:
  CheckpointFolders() {
    start_logging();
    log_to_file(folder_ / "log.txt");
  }
  ~CheckpointFolders() override { start_logging(); }  // lets go of the file

  std::filesystem::path save(int64_t step, int64_t keep_last = 0) {
    return save_checkpoint(checkpoints_, example_checkpoint(step), keep_last);
  }
  std::filesystem::path path_of(int64_t step) const { return checkpoints_ / step_folder_name(step); }
  std::string log() const { return slurp(folder_ / "log.txt"); }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> found;
    for (const StepFolder& folder : list_step_folders(checkpoints_)) found.push_back(folder.step);
    return found;
  }
  size_t entries() const { return std::distance(std::filesystem::directory_iterator(checkpoints_), {}); }

  TemporaryFolder folder_;
  std::filesystem::path checkpoints_ = folder_ / "checkpoints";
};

TEST(StepFolders, Names) {
  EXPECT_EQ(step_folder_name(0), "step-00000000");
  EXPECT_EQ(step_folder_name(500), "step-00000500");
  EXPECT_EQ(step_folder_name(1234567890123), "step-1234567890123");
  for (const int64_t step : {0L, 7L, 99999999L, 100000000L})
    EXPECT_EQ(step_of_folder_name(step_folder_name(step)), step);
  for (const char* name : {"", "step-", "step-5", "step-000000005", "step--0000001", "step-+0000001", "step-0000000x",
                           ".tmp-step-00000001-5", "step-00000001-old", "step-99999999999999999999", "Step-00000001"}) {
    EXPECT_EQ(step_of_folder_name(name), std::nullopt) << name;
  }
}

TEST_F(CheckpointFolders, KeepLast) {
  for (int64_t step = 1; step <= 4; ++step) save(step);
  EXPECT_THAT(steps(), ElementsAre(4, 3, 2, 1));
  save(5, 2);
  EXPECT_THAT(steps(), ElementsAre(5, 4));
  save(6, 1);
  EXPECT_THAT(steps(), ElementsAre(6));
  EXPECT_EQ(entries(), 1u);
  expect_equal(load_checkpoint(path_of(6)), example_checkpoint(6));
}

TEST_F(CheckpointFolders, PartialOnesNeitherCountNorGo) {
  save(1);
  save(2);
  save(3);
  std::filesystem::remove(path_of(2) / "model.safetensors");
  save(4, 2);
  EXPECT_THAT(steps(), ElementsAre(4, 3, 2));
}

TEST_F(CheckpointFolders, TheOneJustSavedStaysEvenBelowNewerOnes) {
  save(10);
  save(20);
  save(5, 1);
  EXPECT_THAT(steps(), ElementsAre(5));
}

TEST_F(CheckpointFolders, LeftoversOfKilledProcessesGo) {
  std::filesystem::create_directories(checkpoints_ / ".tmp-step-00000003-4711");
  spill(checkpoints_ / ".tmp-step-00000003-4711" / "model.safetensors", "half");
  std::filesystem::create_directories(checkpoints_ / ".tmp-step-00000001-4711-old" / "deep");
  std::filesystem::create_directories(checkpoints_ / "mine");
  save(3);
  EXPECT_THAT(steps(), ElementsAre(3));
  EXPECT_EQ(entries(), 2u);
  EXPECT_TRUE(std::filesystem::exists(checkpoints_ / "mine"));
}

TEST_F(CheckpointFolders, AWholeCheckpointOfTheSameStepStays) {
  save(1);
  save(2);
  const auto before = std::filesystem::last_write_time(path_of(2) / "manifest.json");
  Checkpoint other = example_checkpoint(2);
  other.trainer["tokens"] = 0;
  EXPECT_EQ(save_checkpoint(checkpoints_, other, 1), path_of(2));
  EXPECT_EQ(std::filesystem::last_write_time(path_of(2) / "manifest.json"), before);
  expect_equal(load_checkpoint(path_of(2)), example_checkpoint(2));
  EXPECT_THAT(steps(), ElementsAre(2));
  EXPECT_THAT(log(), Not(HasSubstr("partial")));
}

TEST_F(CheckpointFolders, ADamagedCheckpointOfTheSameStepIsReplaced) {
  save(2);
  std::string bytes = slurp(path_of(2) / "model.safetensors");
  bytes.back() ^= 1;
  spill(path_of(2) / "model.safetensors", bytes);
  save(2);
  expect_equal(load_checkpoint(path_of(2)), example_checkpoint(2));
  EXPECT_EQ(entries(), 1u);
  EXPECT_THAT(log(), AllOf(HasSubstr("warning replacing the partial checkpoint"), HasSubstr("model.safetensors")));
}

TEST_F(CheckpointFolders, LatestSkipsPartialOnesWithAWarningEach) {
  for (int64_t step = 1; step <= 4; ++step) save(step);
  std::filesystem::remove(path_of(4) / "manifest.json");
  std::string bytes = slurp(path_of(3) / "optimizer.safetensors");
  bytes[bytes.size() / 2] ^= 4;
  spill(path_of(3) / "optimizer.safetensors", bytes);
  EXPECT_EQ(find_latest_checkpoint(checkpoints_), path_of(2));
  EXPECT_THAT(log(), AllOf(HasSubstr("warning skipping the partial checkpoint " + path_of(4).string()),
                           HasSubstr("manifest.json, which is written last, is missing"),
                           HasSubstr("warning skipping the partial checkpoint " + path_of(3).string()),
                           HasSubstr("optimizer.safetensors: wrong checksum"), Not(HasSubstr("step-00000002"))));
}

TEST_F(CheckpointFolders, LatestOfNothing) {
  EXPECT_EQ(find_latest_checkpoint(checkpoints_), std::nullopt);
  std::filesystem::create_directories(checkpoints_ / ".tmp-step-00000001-5");
  spill(checkpoints_ / "step-00000002", "a file");
  EXPECT_EQ(find_latest_checkpoint(checkpoints_), std::nullopt);
}

TEST_F(CheckpointFolders, LatestOfDamagedOnesIsAnErrorThatNamesEach) {
  save(1);
  save(2);
  std::filesystem::remove(path_of(1) / "manifest.json");
  std::filesystem::remove(path_of(2) / "trainer.json");
  EXPECT_THAT(message_of<CheckpointError>([&] { find_latest_checkpoint(checkpoints_); }),
              AllOf(HasSubstr("none of the 2 checkpoints in " + checkpoints_.string()),
                    HasSubstr(path_of(1).string() + ": not a complete checkpoint"),
                    HasSubstr((path_of(2) / "trainer.json").string() + ": the file is missing")));
}

// What another version of the program has saved is whole: neither passed over nor replaced.
TEST_F(CheckpointFolders, AnotherFormatVersionIsRefusedAndLeftAlone) {
  save(1);
  save(2);
  Json manifest = parse_json(slurp(path_of(2) / "manifest.json"), "manifest");
  manifest["format_version"] = 2;
  manifest.erase("xxh3_128");
  manifest["xxh3_128"] = checksum(manifest.dump());
  spill(path_of(2) / "manifest.json", manifest.dump());
  const std::string bytes = slurp(path_of(2) / "manifest.json");
  const std::string refusal =
      (path_of(2) / "manifest.json").string() + ": format_version is 2; this program reads version 1";
  EXPECT_EQ(message_of<CheckpointError>([&] { find_latest_checkpoint(checkpoints_); }), refusal);
  EXPECT_EQ(message_of<CheckpointError>([&] { resolve_checkpoint(folder_.path()); }), refusal);
  EXPECT_EQ(message_of<CheckpointError>([&] { save(2); }), refusal);
  EXPECT_EQ(slurp(path_of(2) / "manifest.json"), bytes);
  EXPECT_EQ(entries(), 2u);
}

TEST_F(CheckpointFolders, ResolveUnderstandsEveryKindOfPath) {
  save(1);
  save(2);
  EXPECT_EQ(resolve_checkpoint(path_of(1)), path_of(1));
  EXPECT_EQ(resolve_checkpoint(path_of(1) / ""), path_of(1) / "");
  EXPECT_EQ(resolve_checkpoint(checkpoints_), path_of(2));
  EXPECT_EQ(resolve_checkpoint(folder_.path()), path_of(2));
  std::filesystem::rename(path_of(1), folder_ / "best");
  EXPECT_EQ(resolve_checkpoint(folder_ / "best"), folder_ / "best");
}

TEST_F(CheckpointFolders, ResolveSaysWhatItLookedFor) {
  const auto error = [](const std::filesystem::path& path) {
    return message_of<CheckpointError>([&] { resolve_checkpoint(path); });
  };
  EXPECT_THAT(error(folder_ / "nothing"), HasSubstr("there is no folder " + (folder_ / "nothing").string()));
  EXPECT_THAT(error(folder_ / "log.txt"), HasSubstr("there is no folder"));
  EXPECT_THAT(error(folder_.path()), AllOf(HasSubstr("neither a checkpoint"), HasSubstr("checkpoints/step-*")));
  save(1);
  std::filesystem::remove(path_of(1) / "manifest.json");
  EXPECT_THAT(error(path_of(1)), AllOf(HasSubstr(path_of(1).string()), HasSubstr("manifest.json")));
  EXPECT_THAT(error(folder_.path()), HasSubstr("none of the 1 checkpoints in"));
}

}  // namespace
}  // namespace switchyard
