#include "base/system.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/errors.h"

namespace switchyard {

void fail_as_system(const std::string& what, const std::filesystem::path& path) {
  const int reason = errno;  // before anything else may change it
  throw Error(what + " " + path.string() + ": " + std::strerror(reason));
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "localhost";
}

}  // namespace switchyard
