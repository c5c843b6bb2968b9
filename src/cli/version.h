// What `switchyard --version` says.
#pragma once

#include <string>

namespace switchyard {

// "0.1.0".
const char* program_version();
// The commit that the program was built from: "abc1234", "abc1234 with changes", or "unknown" without git.
const char* source_commit();

// Several lines: version and commit, LibTorch, processor variants and the one in use, CUDA or not.
std::string version_text();

}  // namespace switchyard
