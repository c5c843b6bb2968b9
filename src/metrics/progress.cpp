#include "metrics/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

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

// Most important first, so that a narrow terminal loses the others. All ASCII: a byte is a column.
std::vector<std::string> facts(const Progress& progress) {
  std::vector<std::string> parts = {"step " + std::to_string(progress.step) + "/" + std::to_string(progress.max_steps),
                                    number("loss", 3, progress.loss)};
  if (progress.balance != 0) parts.push_back(number("balance", 2, progress.balance));
  if (std::isfinite(progress.tokens_per_second)) {
    parts.push_back(with_thousands(std::llround(progress.tokens_per_second)) + " tok/s");
  }
  if (std::isfinite(progress.seconds_left)) parts.push_back(as_duration(progress.seconds_left) + " left");
  return parts;
}

std::string bar(const Progress& progress, int width) {
  const double share =
      progress.max_steps > 0 ? static_cast<double>(progress.step) / static_cast<double>(progress.max_steps) : 0.0;
  const int filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * width);
  std::string text;
  for (int i = 0; i < width; ++i) text += i < filled ? "━" : "─";
  return text;
}

int terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string format_progress(const Progress& progress, int width) {
  std::vector<std::string> parts = facts(progress);
  std::string text = joined(parts);
  if (width <= 0) return text;
  while (parts.size() > 1 && static_cast<int>(text.size()) > width) {
    parts.pop_back();
    text = joined(parts);
  }
  const int room = width - static_cast<int>(text.size()) - 2;
  if (room >= kSmallestBar) return bar(progress, std::min(room, kLargestBar)) + kGap + text;
  return text.substr(0, static_cast<size_t>(width));
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
  // The last column stays free: some terminals wrap as soon as it is written.
  show(format_progress(progress, std::max(1, terminal_width() - 1)));
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

}  // namespace switchyard
