#include "base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "base/logging.h"
#include "base/text.h"

namespace switchyard {
namespace {

constexpr int kSmallestBar = 8;
constexpr int kLargestBar = 30;
constexpr const char* kGap = "  ";

std::string number(const char* name, int decimals, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%s %.*f", name, decimals, value);
  return buffer.data();
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : kGap) + part;
  return text;
}

std::string time_left(double seconds) { return as_duration(seconds) + " left"; }

// Most important first, so that a narrow terminal loses the others. All ASCII: a byte is a column.
std::vector<std::string> facts(const Progress& progress) {
  std::vector<std::string> parts = {"step " + std::to_string(progress.step) + "/" + std::to_string(progress.max_steps),
                                    number("loss", 3, progress.loss)};
  if (progress.balance != 0) parts.push_back(number("balance", 2, progress.balance));
  if (std::isfinite(progress.tokens_per_second)) {
    parts.push_back(with_thousands(std::llround(progress.tokens_per_second)) + " tok/s");
  }
  if (std::isfinite(progress.seconds_left)) parts.push_back(time_left(progress.seconds_left));
  return parts;
}

double share_of(int64_t done, int64_t total) {
  return total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0.0;
}

std::string bar(double share, int width) {
  const int filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * width);
  std::string text;
  for (int i = 0; i < width; ++i) text += i < filled ? "━" : "─";
  return text;
}

int terminal_width() {
  winsize size{};
  // The last column stays free: some terminals wrap as soon as it is written.
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? std::max(1, size.ws_col - 1) : 79;
}

std::string fitted(std::vector<std::string> parts, double share, int width) {
  std::string text = joined(parts);
  if (width <= 0) return text;
  while (parts.size() > 1 && static_cast<int>(text.size()) > width) {
    parts.pop_back();
    text = joined(parts);
  }
  const int room = width - static_cast<int>(text.size()) - 2;
  if (room >= kSmallestBar) return bar(share, std::min(room, kLargestBar)) + kGap + text;
  return text.substr(0, static_cast<size_t>(width));
}

}  // namespace

std::string format_progress(const Progress& progress, int width) {
  return fitted(facts(progress), share_of(progress.step, progress.max_steps), width);
}

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (dirty_) std::fputs("\n", stderr);
}

void ProgressLine::update(const Progress& progress) {
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", format_progress(progress, 0).c_str());
    return;
  }
  show(format_progress(progress, terminal_width()));
}

void ProgressLine::show(const std::string& text) {
  if (!terminal_) return;
  std::fprintf(stderr, "\r%s\x1b[K", text.c_str());
  std::fflush(stderr);
  dirty_ = true;
}

void ProgressLine::clear() {
  if (!dirty_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  dirty_ = false;
}

WorkProgress::WorkProgress(std::string what) : what_(std::move(what)) {
  other_line_ = before_terminal_message([this] { line_.clear(); });
}

WorkProgress::~WorkProgress() {
  before_terminal_message(std::move(other_line_));
  line_.clear();
}

void WorkProgress::update(int64_t done, int64_t total) {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  std::vector<std::string> parts = {what_ + " " + with_thousands(done) + "/" + with_thousands(total)};
  if (done > 0)
    parts.push_back(time_left(elapsed.count() * static_cast<double>(total - done) / static_cast<double>(done)));
  line_.show(fitted(std::move(parts), share_of(done, total), terminal_width()));
}

}  // namespace switchyard
