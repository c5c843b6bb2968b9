// One log for the program: spdlog to standard error and, once a run folder exists, to its log.txt.
//
// This header does not include spdlog, and files that see LibTorch must not: LibTorch ships its own, newer fmt, whose
// headers come first there and do not fit the spdlog of the system. They call the functions below.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace switchyard {

// One message to the default logger.
void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);

// Sets the pattern and level; no colours where NO_COLOR is set. Called once by main() and by tests that look at the
// log.
void start_logging();
// Marks every message with the rank, and shows only errors of other ranks than the first on the terminal.
void log_as_rank(int rank);
// Adds `path` (appending) as a second place that every message goes to, those before this call included. Throws Error.
void log_to_file(const std::filesystem::path& path);
// Called before each message reaches the terminal (the progress line clears itself there); {} removes it. Returns what
// was called until now.
std::function<void()> before_terminal_message(std::function<void()> callback);

}  // namespace switchyard
