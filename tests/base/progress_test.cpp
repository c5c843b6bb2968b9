#include "base/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <limits>

namespace switchyard {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::StartsWith;

Progress sample() {
  return {
      .step = 120, .max_steps = 1000, .loss = 2.3451, .balance = 1.03, .tokens_per_second = 8412, .seconds_left = 65};
}

TEST(FormatProgress, AllFacts) {
  EXPECT_EQ(format_progress(sample(), 0), "step 120/1000  loss 2.345  balance 1.03  8,412 tok/s  1m 05s left");
}

TEST(FormatProgress, ABarWhereThereIsRoom) {
  const std::string facts = "step 120/1000  loss 2.345  balance 1.03  8,412 tok/s  1m 05s left";
  EXPECT_EQ(format_progress(sample(), 66), facts);
  EXPECT_EQ(format_progress(sample(), 74), facts);
  EXPECT_EQ(format_progress(sample(), 76), "━────────  " + facts);
  EXPECT_EQ(format_progress(sample(), 200), "━━━───────────────────────────  " + facts);
}

TEST(FormatProgress, ANarrowTerminalLosesTheLeastImportant) {
  EXPECT_EQ(format_progress(sample(), 60), "step 120/1000  loss 2.345  balance 1.03  8,412 tok/s");
  EXPECT_EQ(format_progress(sample(), 26), "step 120/1000  loss 2.345");
  EXPECT_EQ(format_progress(sample(), 8), "step 120");
}

TEST(FormatProgress, DenseModelsHaveNoBalance) {
  Progress progress = sample();
  progress.balance = 0;
  EXPECT_EQ(format_progress(progress, 0), "step 120/1000  loss 2.345  8,412 tok/s  1m 05s left");
}

TEST(FormatProgress, WhatIsNotKnownIsLeftOut) {
  Progress progress = sample();
  progress.loss = std::nan("");
  progress.tokens_per_second = std::numeric_limits<double>::infinity();
  progress.seconds_left = std::nan("");
  EXPECT_EQ(format_progress(progress, 0), "step 120/1000  loss nan  balance 1.03");
  EXPECT_EQ(format_progress(Progress{}, 48), "────────  step 0/0  loss 0.000  0 tok/s  0s left");
}

TEST(ProgressLine, WithoutATerminalPlainLines) {
  ::testing::internal::CaptureStderr();
  {
    ProgressLine line;
    line.update(sample());
    line.clear();
    line.update(sample());
  }
  const std::string expected = format_progress(sample(), 0) + "\n";
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), expected + expected);
}

// Standard error is a pseudo-terminal of 50 columns while this lives.
class Terminal {
 public:
  Terminal() : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)) {
    if (::grantpt(master_) != 0 || ::unlockpt(master_) != 0) return;
    const int slave = ::open(::ptsname(master_), O_RDWR | O_NOCTTY);
    const winsize size = {.ws_row = 24, .ws_col = 50, .ws_xpixel = 0, .ws_ypixel = 0};
    ::ioctl(slave, TIOCSWINSZ, &size);
    saved_ = ::dup(STDERR_FILENO);
    ::dup2(slave, STDERR_FILENO);
    ::close(slave);
  }
  ~Terminal() {
    if (saved_ >= 0) {
      ::dup2(saved_, STDERR_FILENO);
      ::close(saved_);
    }
    ::close(master_);
  }
  bool works() const { return saved_ >= 0; }
  // What has been written, once it is as long as `expected` or nothing has come for seconds: a pseudo-terminal passes
  // on in its own time.
  std::string written(const std::string& expected) const {
    constexpr int kMostMilliseconds = 5000;
    std::string text;
    pollfd master = {.fd = master_, .events = POLLIN, .revents = 0};
    while (text.size() < expected.size() && ::poll(&master, 1, kMostMilliseconds) > 0) {
      std::array<char, 4096> buffer{};
      const ssize_t size = ::read(master_, buffer.data(), buffer.size());
      if (size <= 0) break;
      text.append(buffer.data(), static_cast<size_t>(size));
    }
    return text;
  }

 private:
  int master_;
  int saved_ = -1;
};

TEST(ProgressLine, OnATerminalOneLineThatRewritesItself) {
  const Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "no pseudo-terminal can be had here";
  const std::string drawn = "\r" + format_progress(sample(), 49) + "\x1b[K";
  const std::string expected = drawn + "\r\x1b[K" + drawn;
  std::string written;
  {
    ProgressLine line;
    line.update(sample());
    line.clear();
    line.clear();  // nothing more to clear
    line.update(sample());
    written = terminal.written(expected);
  }
  EXPECT_EQ(written, expected);
  EXPECT_EQ(terminal.written("\r\n"), "\r\n");  // the terminal's own form of the newline that ends the line
}

TEST(WorkProgress, OnATerminalOnly) {
  ::testing::internal::CaptureStderr();
  WorkProgress("batches routed").update(1, 4);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");

  const Terminal terminal;
  if (!terminal.works()) GTEST_SKIP() << "no pseudo-terminal can be had here";
  WorkProgress("batches routed").update(1, 4);
  const std::string before = "\r━━━━━───────────────  batches routed 1/4  ";
  const std::string after = " left\x1b[K\r\x1b[K";
  EXPECT_THAT(terminal.written(before + "0s" + after), AllOf(StartsWith(before), EndsWith(after)));
}

}  // namespace
}  // namespace switchyard
