#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "base/system.h"

namespace switchyard {
namespace {

constexpr std::chrono::milliseconds kLookAgain{50};

std::string own_name() { return "process " + std::to_string(::getpid()) + " on " + host_name(); }

}  // namespace

FileLock::FileLock(std::filesystem::path path, bool with_children) : path_(std::move(path)) {
  // O_NOFOLLOW: the holder's name must not be written into what a planted link points to.
  const int flags = O_NOFOLLOW | (with_children ? 0 : O_CLOEXEC);
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | flags, 0644);
  if (descriptor_ >= 0) return;
  const int reason = errno;
  if (reason == EACCES || reason == EPERM || reason == EROFS) descriptor_ = ::open(path_.c_str(), O_RDONLY | flags);
  errno = reason;
  if (descriptor_ < 0) fail_as_system("cannot lock", path_);
}

FileLock::~FileLock() { ::close(descriptor_); }

bool FileLock::take(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) fail_as_system("cannot lock", path_);
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kLookAgain);
  }
  // Only a courtesy: the lock holds though the disk is full or read-only.
  const std::string name = own_name() + "\n";
  if (::ftruncate(descriptor_, 0) == 0) static_cast<void>(!::pwrite(descriptor_, name.data(), name.size(), 0));
  return true;
}

std::string FileLock::holder() const {
  std::array<char, 300> bytes{};
  const ssize_t size = ::pread(descriptor_, bytes.data(), bytes.size(), 0);
  const auto is_plain = [](char c) { return c >= ' ' && c <= '~'; };
  const std::string name(bytes.begin(),
                         std::find_if_not(bytes.begin(), bytes.begin() + std::max<ssize_t>(0, size), is_plain));
  return name.starts_with("process ") ? name : "another process";
}

}  // namespace switchyard
