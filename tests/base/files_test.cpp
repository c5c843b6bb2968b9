#include "base/files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/errors.h"
#include "base/logging.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::message_of;
using test::slurp;
using test::spill;
using test::TemporaryFolder;
using ::testing::HasSubstr;

TEST(Files, ReadsWhatWasWritten) {
  TemporaryFolder folder;
  const std::string bytes("a\0b\nc\xff", 6);
  const FileDigest digest = write_file_durably(folder / "file", bytes);
  EXPECT_EQ(slurp(folder / "file"), bytes);
  EXPECT_EQ(read_file(folder / "file"), bytes);
  EXPECT_EQ(digest.bytes, 6u);
  EXPECT_EQ(digest.checksum, checksum(bytes));
  EXPECT_EQ(checksum_file(folder / "file"), checksum(bytes));
}

TEST(Files, EmptyFilesAreFine) {
  TemporaryFolder folder;
  write_file_durably(folder / "file", "");
  EXPECT_EQ(read_file(folder / "file"), "");
  EXPECT_TRUE(MappedFile(folder / "file").bytes().empty());
  EXPECT_EQ(checksum_file(folder / "file"), checksum(""));
}

TEST(Files, ErrorsNameThePathAndTheReason) {
  TemporaryFolder folder;
  const std::string missing = (folder / "missing").string();
  EXPECT_EQ(message_of<Error>([&] { read_file(missing); }), "cannot open " + missing + ": No such file or directory");
  EXPECT_THAT(message_of<Error>([&] { MappedFile file(missing); }), HasSubstr(missing));
  EXPECT_THAT(message_of<Error>([&] { read_file(folder.path()); }), HasSubstr("not a regular file"));
  EXPECT_THAT(message_of<Error>([&] { DurableFile file(folder / "no" / "file"); }), HasSubstr("cannot create"));
  EXPECT_THAT(message_of<Error>([&] { sync_directory(missing); }), HasSubstr(missing));
}

TEST(Files, NamedPipesAreRefusedInsteadOfWaitedFor) {
  TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_of<Error>([&] { read_file(folder / "pipe"); }), HasSubstr("not a regular file"));
  EXPECT_THAT(message_of<Error>([&] { MappedFile file(folder / "pipe"); }), HasSubstr("not a regular file"));
}

TEST(Files, TooLargeFilesAreRefusedBeforeReading) {
  TemporaryFolder folder;
  spill(folder / "file", "12345");
  EXPECT_EQ(read_file(folder / "file", 5), "12345");
  EXPECT_THAT(message_of<Error>([&] { read_file(folder / "file", 4); }), HasSubstr("5 bytes, more than the 4"));
}

TEST(Files, ReplaceLeavesTheNewFileAlone) {
  TemporaryFolder folder;
  replace_file(folder / "file", "old");
  replace_file(folder / "file", "new");
  EXPECT_EQ(slurp(folder / "file"), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Files, ReplaceCleansUpWhenTheTargetIsAFolder) {
  TemporaryFolder folder;
  std::filesystem::create_directories(folder / "file" / "inside");
  EXPECT_THAT(message_of<Error>([&] { replace_file(folder / "file", "new"); }), HasSubstr("it is a folder"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Files, UncommittedFilesDisappear) {
  TemporaryFolder folder;
  {
    DurableFile file(folder / "file");
    file.write("abc", 3);
    EXPECT_FALSE(std::filesystem::exists(folder / "file"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Files, TheOlderFileStaysUntilTheNewOneIsWhole) {
  TemporaryFolder folder;
  spill(folder / "file", "old");
  {
    DurableFile file(folder / "file");
    file.write("new", 3);
    EXPECT_EQ(slurp(folder / "file"), "old");
  }
  EXPECT_EQ(slurp(folder / "file"), "old");
}

TEST(Files, ReplacedThroughALinkAndWithTheSameMode) {
  TemporaryFolder folder;
  spill(folder / "file", "old");
  chmod((folder / "file").c_str(), 0600);
  std::filesystem::create_symlink("file", folder / "link");
  replace_file(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(slurp(folder / "file"), "new");
  EXPECT_EQ(std::filesystem::status(folder / "file").permissions(), std::filesystem::perms(0600));
}

TEST(Files, WhatHasTheTemporaryNameIsNotWrittenThrough) {
  TemporaryFolder folder;
  spill(folder / "victim", "precious");
  std::filesystem::create_symlink("victim", folder / ("file.tmp-" + std::to_string(getpid())));
  replace_file(folder / "file", "new");
  EXPECT_EQ(slurp(folder / "file"), "new");
  EXPECT_EQ(slurp(folder / "victim"), "precious");
}

TEST(Files, LeftoversOfKilledWritersGo) {
  test::TemporaryFolder folder;
  const auto path = folder / "file";
  for (const char* left : {"file.tmp-1", "file.tmp-99999999"}) test::spill(folder / left, "half");
  for (const char* other : {"file.tmp-", "file.tmp-1a", "other.tmp-1", "file.tmp-1.txt"}) {
    test::spill(folder / other, "not ours");
  }
  DurableFile alive(path);  // of a process that still writes
  alive.write("x", 1);
  const auto held = folder / ("file.tmp-" + std::to_string(::getpid()));
  std::filesystem::rename(held, folder / "file.tmp-77");  // as if it had another number
  replace_file(path, "new");
  EXPECT_EQ(read_file(path), "new");
  EXPECT_FALSE(std::filesystem::exists(folder / "file.tmp-1"));
  EXPECT_FALSE(std::filesystem::exists(folder / "file.tmp-99999999"));
  EXPECT_TRUE(std::filesystem::exists(folder / "file.tmp-77"));
  for (const char* other : {"file.tmp-", "file.tmp-1a", "other.tmp-1", "file.tmp-1.txt"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / other)) << other;
  }
}

TEST(Files, DevicesAreWrittenTo) {
  TemporaryFolder folder;
  const std::string null = folder / "null", full = folder / "full";  // of its own: root could lose those of the system
  if (mknod(null.c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0 ||
      mknod(full.c_str(), S_IFCHR | 0600, makedev(1, 7)) != 0 || access(null.c_str(), W_OK) != 0) {
    GTEST_SKIP() << "making devices needs root";
  }
  replace_file(null, "nothing");
  EXPECT_TRUE(std::filesystem::is_character_file(null));
  EXPECT_EQ(message_of<Error>([&] { replace_file(full, "x"); }), "cannot write " + full + ": No space left on device");
  EXPECT_TRUE(std::filesystem::is_character_file(full));
}

TEST(Files, PipesAndDescriptorsAreWrittenTo) {
  TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  replace_file(pipe, "hello");
  char got[6] = {};
  EXPECT_EQ(read(reader, got, sizeof(got)), 5);
  EXPECT_STREQ(got, "hello");
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  // A regular file that a descriptor has open is written to where it is, too.
  spill(folder / "open", "a");
  const int descriptor = open((folder / "open").c_str(), O_WRONLY);
  replace_file("/dev/fd/" + std::to_string(descriptor), "b");
  EXPECT_EQ(slurp(folder / "open"), "ab");
  close(reader);
  close(descriptor);
}

// A limit on file sizes stands for a full disk: the write that crosses it is short, the next one fails.
TEST(Files, ShortWritesAreReportedAndLeaveNothing) {
  TemporaryFolder folder;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = message_of<Error>([&] { write_file_durably(folder / "file", std::string(1001, 'x')); });
    const bool good = message == "cannot write " + (folder / "file").string() + ": File too large" &&
                      !std::filesystem::exists(folder / "file");
    _exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Files, WhatIsCutWhileInUseIsNamed) {
  TemporaryFolder folder;
  spill(folder / "file", std::string(10000, 'x'));
  const MappedFile file(folder / "file");
  std::filesystem::resize_file(folder / "file", 100);
  std::string copy(200, '\0');
  EXPECT_EQ(message_of<Error>([&] { file.read(0, copy.data(), 200); }),
            "cannot read " + file.path().string() + ": it was cut while in use, from 10000 bytes to at most 100");
  const auto touch = [&] {
    start_logging();  // to standard error
    name_unreadable_maps();
    return *const_cast<const volatile std::byte*>(&file.bytes()[9000]);
  };
  EXPECT_EXIT(touch(), ::testing::ExitedWithCode(1),
              "cannot read " + file.path().string() + ": it was cut while in use");
}

TEST(Files, MapsMove) {
  TemporaryFolder folder;
  spill(folder / "a", "aaa");
  spill(folder / "b", "bb");
  MappedFile first(folder / "a");
  MappedFile second(std::move(first));
  EXPECT_EQ(second.bytes().size(), 3u);
  second = MappedFile(folder / "b");
  ASSERT_EQ(second.bytes().size(), 2u);
  EXPECT_EQ(second.bytes()[1], std::byte{'b'});
  EXPECT_EQ(second.path(), folder / "b");
}

// In the canonical order of bytes, the most significant first, as xxhsum prints them.
TEST(Checksum, KnownValues) {
  EXPECT_EQ(checksum(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(checksum("abc"), "06b05ab6733a618578af5f94892f3950");
}

TEST(Checksum, PiecesEqualTheWhole) {
  std::string bytes;
  for (int i = 0; i < 5000; ++i) bytes += static_cast<char>(i * 131);
  for (const size_t piece : {1u, 7u, 240u, 1024u, 4999u}) {
    RunningChecksum running;
    for (size_t i = 0; i < bytes.size(); i += piece)
      running.update(bytes.data() + i, std::min(piece, bytes.size() - i));
    EXPECT_EQ(running.text(), checksum(bytes)) << piece;
  }
}

TEST(Checksum, EveryFlippedBitShows) {
  std::string bytes = "The quick brown fox";
  const std::string before = checksum(bytes);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_NE(checksum(bytes), before) << bit;
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
}

}  // namespace
}  // namespace switchyard
