#include "ablate/run_output.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <vector>

namespace switchyard {
namespace {

constexpr size_t kLongestError = 4000;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) c == '\n' ? void(lines.emplace_back()) : void(lines.back() += c);
  return lines;
}

std::string exit_text(int exit_code) {
  if (exit_code == 128 + SIGKILL) return "killed by signal 9; is there enough memory?";
  return exit_code > 128 ? "ended by signal " + std::to_string(exit_code - 128)
                         : "exit code " + std::to_string(exit_code);
}

}  // namespace

int64_t step_of_progress_line(const std::string& line) {
  long step = 0, last = 0;
  return std::sscanf(line.c_str(), "step %ld/%ld", &step, &last) == 2 ? step : -1;
}

std::string last_progress_line(const std::string& text) {
  const std::vector<std::string> lines = lines_of(text);
  const auto last = std::find_if(lines.rbegin(), lines.rend(),
                                 [](const std::string& line) { return step_of_progress_line(line) >= 0; });
  return last == lines.rend() ? "" : *last;
}

std::string error_in_output(const std::string& text, int exit_code) {
  std::vector<std::string> lines = lines_of(text);
  std::erase_if(lines, [](const std::string& line) { return line.empty() || step_of_progress_line(line) >= 0; });
  const auto is_error = [](const std::string& line) {
    return line.starts_with("switchyard: ") || line.find(" error ") != std::string::npos;
  };
  const auto last = std::find_if(lines.rbegin(), lines.rend(), is_error);
  if (last != lines.rend()) {
    lines.erase(lines.begin(), last.base() - 1);
  } else if (lines.size() > 1) {
    lines.erase(lines.begin(), lines.end() - 1);
  }
  std::string message;
  for (const std::string& line : lines) message += (message.empty() ? "" : "\n") + line;
  return message.substr(0, kLongestError) + " (" + exit_text(exit_code) + ")";
}

}  // namespace switchyard
