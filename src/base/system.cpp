#include "base/system.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>

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

int64_t allowed_cores() {
  cpu_set_t cores;
  if (::sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max<int64_t>(1, std::thread::hardware_concurrency());  // more of them than the set holds
}

std::optional<int64_t> threads_of_environment() {
  const char* value = std::getenv("OMP_NUM_THREADS");
  if (value == nullptr) return std::nullopt;
  const std::string_view text = value;
  int64_t threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  const bool good = error == std::errc() && (end == text.data() + text.size() || *end == ',') && threads > 0;
  const bool of_torchrun = text == "1" && std::getenv("TORCHELASTIC_RUN_ID") != nullptr;
  if (!good || of_torchrun) return std::nullopt;
  return std::min<int64_t>(threads, 1024);
}

}  // namespace switchyard
