// What the operating system says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace switchyard {

// Throws Error "`what` PATH: why", with the reason of the call that has just failed (errno).
[[noreturn]] void fail_as_system(const std::string& what, const std::filesystem::path& path);

// Processor cores that this process may run on (taskset, a container's set), at least 1.
int64_t allowed_cores();

// The threads that the environment asks for: the first number of OMP_NUM_THREADS. Not the 1 that torchrun puts there
// for every rank where the user has said nothing.
std::optional<int64_t> threads_of_environment();

// This machine's name; "localhost" where it has none.
std::string host_name();

}  // namespace switchyard
