// What the fuzz targets share. CONTRIBUTING.md says how one is added and how a crash is replayed.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace switchyard::fuzz {

// A parser of foreign bytes. `run` gives it one input and holds what it accepts to its promises; any exception that
// leaves `run` is a crash. `seeds` are inputs to start from.
struct Target {
  const char* name;
  void (*run)(std::string_view input);
  std::vector<std::string> (*seeds)();
};

std::vector<Target> config_targets();
std::vector<Target> data_targets();
std::vector<Target> checkpoint_targets();
std::vector<Target> run_targets();

inline void require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

// Whether `parse` returns. It may refuse its input by throwing an E, which says why, and nothing else.
template <typename E, typename Parse>
bool accepts(Parse&& parse) {
  try {
    parse();
    return true;
  } catch (const E& error) {
    require(*error.what() != '\0', "a refusal says why");
    return false;
  }
}

// A folder for parsers that read files; always the same one, since a process may end at any input.
inline std::filesystem::path scratch(const std::string& target) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("switchyard-fuzz-" + target);
  std::filesystem::create_directories(folder);
  return folder;
}

// The number that the last two bytes say, and the rest.
inline size_t take_number(std::string_view& input) {
  if (input.size() < 2) return 0;
  const auto byte = [&](size_t from_end) { return static_cast<unsigned char>(input[input.size() - from_end]); };
  const size_t number = byte(2) | byte(1) << 8;
  input.remove_suffix(2);
  return number;
}

}  // namespace switchyard::fuzz
