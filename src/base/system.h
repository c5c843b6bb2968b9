// What the operating system says.
#pragma once

#include <filesystem>
#include <string>

namespace switchyard {

// Throws Error "`what` PATH: why", with the reason of the call that has just failed (errno).
[[noreturn]] void fail_as_system(const std::string& what, const std::filesystem::path& path);

// This machine's name; "localhost" where it has none.
std::string host_name();

}  // namespace switchyard
