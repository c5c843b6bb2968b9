#include "base/new_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/errors.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class NewFolderTest : public ::testing::Test {
 protected:
  static void spill(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_.path())) found.push_back(entry.path().filename().string());
    return found;
  }
  fs::path temporary_of(const std::string& name) const {
    return folder_ / (".tmp-" + name + "-" + std::to_string(::getpid()));
  }
  test::TemporaryFolder folder_;
};

TEST_F(NewFolderTest, IsThereWholeOrNotAtAll) {
  {
    NewFolder folder(folder_ / "a");
    EXPECT_EQ(folder.path(), temporary_of("a"));
    spill(folder.path() / "file", "x");
  }
  EXPECT_THAT(names(), IsEmpty());
  {
    NewFolder folder(folder_ / "a");
    spill(folder.path() / "file", "x");
    folder.commit();
  }
  EXPECT_THAT(names(), UnorderedElementsAre("a"));
  EXPECT_TRUE(fs::exists(folder_ / "a/file"));
}

TEST_F(NewFolderTest, ReplacesOnlyWhenToldTo) {
  fs::create_directories(folder_ / "a/old");
  NewFolder folder(folder_ / "a");
  spill(folder.path() / "file", "x");
  EXPECT_THAT(message_of<Error>([&] { folder.commit(); }), HasSubstr((folder_ / "a").string()));
  folder.replace();
  EXPECT_THAT(names(), UnorderedElementsAre("a"));
  EXPECT_FALSE(fs::exists(folder_ / "a/old"));
}

TEST_F(NewFolderTest, WritesThroughNothingThatOthersPut) {
  fs::create_directory(folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", temporary_of("a"));
  remove_leftovers(folder_.path());
  EXPECT_THAT(message_of<Error>([&] { NewFolder folder(folder_ / "a"); }), HasSubstr("File exists"));
  EXPECT_TRUE(fs::is_symlink(temporary_of("a")));
}

TEST_F(NewFolderTest, LeftoversGoUnlessTheyAreHeld) {
  for (const char* name : {".tmp-a-1", ".tmp-a-1-old", ".tmp-a-b-1", ".tmp-a", ".tmp-a-1x", "a-1", ".tmp-c-9"}) {
    fs::create_directories(folder_ / name / "deep");
  }
  const NewFolder held(folder_ / "a");
  const std::string mine = held.path().filename().string();
  remove_leftovers(folder_.path(), "a");
  EXPECT_THAT(names(), UnorderedElementsAre(".tmp-a-b-1", ".tmp-a", ".tmp-a-1x", "a-1", ".tmp-c-9", mine));
  remove_leftovers(folder_.path());
  EXPECT_THAT(names(), UnorderedElementsAre(".tmp-a", ".tmp-a-1x", "a-1", mine));
  remove_leftovers(folder_ / "missing");
}

TEST_F(NewFolderTest, CreatesFoldersAbove) {
  create_folders(folder_ / "a/b/c/");
  create_folders(folder_ / "a/b/c");
  EXPECT_TRUE(fs::is_directory(folder_ / "a/b/c"));
  spill(folder_ / "file", "x");
  EXPECT_THAT(message_of<Error>([&] { create_folders(folder_ / "file/a"); }), HasSubstr((folder_ / "file").string()));
}

}  // namespace
}  // namespace switchyard
