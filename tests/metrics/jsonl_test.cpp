#include "metrics/jsonl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "base/errors.h"
#include "base/logging.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::message_of;
using test::slurp;
using test::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Jsonl : public ::testing::Test {
 protected:
  void write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  std::string text() const { return slurp(path_); }

  TemporaryFolder scratch_{test::memory_folder()};
  std::filesystem::path path_ = scratch_.path() / "metrics.jsonl";
};

TEST_F(Jsonl, LinesAreOnDiskAtOnceAndInTheOrderOfTheirKeys) {
  JsonlWriter writer(path_);
  writer.write({{"event", "train"}, {"step", 1}, {"loss", 2.5}});
  EXPECT_EQ(text(), "{\"event\":\"train\",\"step\":1,\"loss\":2.5}\n");
  writer.write({{"step", 2}});
  EXPECT_EQ(read_jsonl(path_).size(), 2U);
}

TEST_F(Jsonl, NumbersThatJsonLacksBecomeNull) {
  JsonlWriter(path_).write({{"a", std::nan("")}, {"b", std::numeric_limits<double>::infinity()}});
  EXPECT_EQ(text(), "{\"a\":null,\"b\":null}\n");
}

TEST_F(Jsonl, BytesThatAreNotUtf8DoNotStopARun) {
  JsonlWriter(path_).write({{"name", "a\xff"}});
  EXPECT_EQ(read_jsonl(path_)[0]["name"], "a\xef\xbf\xbd");
}

TEST_F(Jsonl, ReopeningAppends) {
  JsonlWriter(path_).write({{"step", 1}});
  JsonlWriter(path_).write({{"step", 2}});
  EXPECT_EQ(text(), "{\"step\":1}\n{\"step\":2}\n");
}

TEST_F(Jsonl, ResumeDropsLaterStepsOnly) {
  write("{\"event\":\"start\",\"step\":0}\n{\"step\":5}\n{\"note\":1}\n{\"step\":10}\n{\"step\":11}\n{\"step\":20}\n");
  JsonlWriter(path_, 10).write({{"step", 12}});
  EXPECT_EQ(text(), "{\"event\":\"start\",\"step\":0}\n{\"step\":5}\n{\"note\":1}\n{\"step\":10}\n{\"step\":12}\n");
}

TEST_F(Jsonl, ResumeFromTheVeryStartDropsEveryStep) {
  write("{\"step\":0}\n{\"step\":1}\n");
  JsonlWriter writer(path_, 0);
  EXPECT_EQ(text(), "{\"step\":0}\n");
}

TEST_F(Jsonl, ACutLastLineIsRemovedBeforeAppending) {
  for (const int64_t resume_step : {-1, 7}) {
    write("{\"step\":1}\n{\"step\":2,\"lo");
    JsonlWriter(path_, resume_step).write({{"step", 2}});
    EXPECT_EQ(text(), "{\"step\":1}\n{\"step\":2}\n") << resume_step;
  }
}

TEST_F(Jsonl, AWholeLastLineThatLacksItsNewlineIsKept) {
  write("{\"step\":1}\n{\"step\":2}");
  JsonlWriter(path_).write({{"step", 3}});
  EXPECT_EQ(text(), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
}

TEST_F(Jsonl, RewritingLeavesNothingElseBehind) {
  write("{\"step\":1}\n{\"step\":2}\n");
  JsonlWriter writer(path_, 1);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch_.path()), {}), 1);
}

TEST_F(Jsonl, EveryCutOfAFileReadsAsItsWholeLines) {
  const std::string whole = "{\"step\":1,\"loss\":-1.5e3}\n{\"step\":2,\"load\":[0.5,0.5]}\n{\"step\":3}\n";
  for (size_t size = 0; size <= whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    write(cut);
    const auto ended = static_cast<size_t>(std::count(cut.begin(), cut.end(), '\n'));
    // One more where only the newline is missing.
    const size_t expected = ended + (size < whole.size() && whole[size] == '\n' ? 1 : 0);
    EXPECT_EQ(read_jsonl(path_).size(), expected) << size;
  }
}

TEST_F(Jsonl, ABrokenLineInTheMiddleIsPutAsideAndTheOthersAreKept) {
  start_logging();
  log_to_file(scratch_.path() / "log.txt");
  const std::filesystem::path aside = path_.string() + ".broken";
  const std::vector<std::string> broken = {"{\"step\":2", "", "[1]", "null", "nonsense", "{\"a\":1,\"a\":2}", "{} {}"};
  for (const std::string& line : broken) {
    std::filesystem::remove(aside);
    write("{\"step\":1}\n" + line + "\n{\"step\":3}\n{\"step\":6}\n");
    const std::vector<Json> lines = read_jsonl(path_);
    ASSERT_EQ(lines.size(), 4U) << line;
    EXPECT_TRUE(lines[1].is_null()) << line;
    EXPECT_EQ(lines[2], Json({{"step", 3}})) << line;
    JsonlWriter(path_, 5).write({{"step", 6}});
    EXPECT_EQ(text(), "{\"step\":1}\n{\"step\":3}\n{\"step\":6}\n") << line;
    EXPECT_EQ(slurp(aside), line + "\n");
    EXPECT_THAT(slurp(scratch_.path() / "log.txt"), HasSubstr("has 1 lines that are no JSON objects: they are now in"));
  }
  write("{\"step\":1}\nworse\n");
  JsonlWriter writer(path_);
  EXPECT_EQ(slurp(aside), broken.back() + "\nworse\n");
  start_logging();  // lets go of the file
}

TEST_F(Jsonl, ZeroBytesOfAPowerCutAreRemovedWhereverTheyAre) {
  const std::string zeros(4096, '\0');
  const std::string one = "{\"step\":1}";
  const std::string two = "{\"step\":2}";
  for (const std::string& found : {one + "\n" + two + "\n" + zeros, one + "\n" + two + zeros,
                                   one + "\n" + zeros + two + "\n", one + zeros + "\n" + zeros + two + zeros}) {
    write(found);
    EXPECT_EQ(read_jsonl(path_).size(), 2U);
    JsonlWriter(path_, 5).write({{"step", 3}});
    EXPECT_EQ(text(), one + "\n" + two + "\n{\"step\":3}\n");
    EXPECT_FALSE(std::filesystem::exists(path_.string() + ".broken"));
  }
}

TEST_F(Jsonl, FoldersThatAreMissingAndFilesThatCannotBeReadAreErrors) {
  EXPECT_THAT(message_of<Error>([&] { JsonlWriter(scratch_.path() / "no" / "metrics.jsonl"); }),
              HasSubstr("No such file"));
  EXPECT_THAT(message_of<Error>([&] { read_jsonl(path_); }), HasSubstr(path_.string()));
}

TEST_F(Jsonl, AFullDiskIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "/dev/full is not here";
  std::filesystem::create_symlink("/dev/full", path_);
  EXPECT_THAT(message_of<Error>([&] {
                JsonlWriter(path_).write({{"step", 1}});
              }),
              HasSubstr("cannot write " + path_.string() + ": No space left on device"));
}

}  // namespace
}  // namespace switchyard
