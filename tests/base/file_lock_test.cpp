#include "base/file_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/errors.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using namespace std::chrono_literals;
using test::message_of;
using test::slurp;
using test::spill;
using test::TemporaryFolder;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(FileLock, OneHoldsItAndLeavesItsName) {
  const TemporaryFolder folder;
  const std::string name = "process " + std::to_string(::getpid()) + " on ";
  FileLock second(folder / "lock");
  EXPECT_EQ(second.holder(), "another process");
  {
    FileLock first(folder / "lock");
    EXPECT_TRUE(first.take(0ms));
    EXPECT_FALSE(second.take(60ms));
    EXPECT_THAT(second.holder(), StartsWith(name));
  }
  EXPECT_TRUE(second.take(0ms));
}

TEST(FileLock, WhatStandsInTheFileIsNotBelieved) {
  const TemporaryFolder folder;
  spill(folder / "lock", "process 1 on a\x1b[2Jb\nmore");
  EXPECT_EQ(FileLock(folder / "lock").holder(), "process 1 on a");
  spill(folder / "lock", "\x1b[2J");
  EXPECT_EQ(FileLock(folder / "lock").holder(), "another process");
}

TEST(FileLock, APlantedLinkIsRefused) {
  const TemporaryFolder folder;
  spill(folder / "mine", "all of it");
  std::filesystem::create_symlink(folder / "mine", folder / "lock");
  EXPECT_THAT(message_of<Error>([&] { FileLock(folder / "lock").take(0ms); }),
              HasSubstr("cannot lock " + (folder / "lock").string()));
  EXPECT_EQ(slurp(folder / "mine"), "all of it");
}

}  // namespace
}  // namespace switchyard
