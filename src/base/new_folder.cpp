#include "base/new_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/system.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = ".tmp-";
constexpr std::string_view kOld = "-old";

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

fs::path temporary_beside(const fs::path& target) {
  const std::string name = std::string(kPrefix) + target.filename().string() + "-" + std::to_string(::getpid());
  return folder_of(target) / name;
}

void rename_folder(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_as_system("cannot rename " + from.string() + " to", to);
}

// A descriptor that holds the folder's lock; -1 when another process has it, or it is no folder.
int lock_folder(const fs::path& folder) {
  const int lock = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (lock < 0 || ::flock(lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return lock;
  ::close(lock);
  return -1;
}

// `.tmp-NAME-PID` or `.tmp-NAME-PID-old`.
bool is_temporary_name(std::string_view found, std::string_view name) {
  if (!found.starts_with(kPrefix)) return false;
  found.remove_prefix(kPrefix.size());
  if (found.ends_with(kOld)) found.remove_suffix(kOld.size());
  const size_t dash = found.rfind('-');
  if (dash == std::string_view::npos || dash + 1 == found.size()) return false;
  const std::string_view process = found.substr(dash + 1);
  return (name.empty() || found.substr(0, dash) == name) &&
         std::all_of(process.begin(), process.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

void create_folders(const fs::path& folder) {
  std::error_code ignored;
  if (folder.empty() || fs::is_directory(folder, ignored)) return;
  const fs::path plain = (folder / "").parent_path();  // without a slash at its end
  create_folders(plain.parent_path());
  if (::mkdir(plain.c_str(), 0777) == 0) return sync_directory(folder_of(plain));
  const int reason = errno;
  if (fs::is_directory(plain, ignored)) return;  // made by another process
  errno = reason;
  fail_as_system("cannot create the folder", plain);
}

NewFolder::NewFolder(const fs::path& target) : target_(target), path_(temporary_beside(target)) {
  create_folders(folder_of(target));
  remove_leftovers(folder_of(target), target.filename().string());
  if (::mkdir(path_.c_str(), 0777) != 0) fail_as_system("cannot create the folder", path_);
  lock_ = lock_folder(path_);
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
  if (lock_ >= 0) ::close(lock_);
}

void NewFolder::commit() {
  sync_directory(path_);
  rename_folder(path_, target_);
  path_.clear();
  sync_directory(folder_of(target_));
}

void NewFolder::replace() {
  if (fs::exists(fs::symlink_status(target_))) remove_folder(target_);
  commit();
}

void remove_folder(const fs::path& folder) {
  const fs::path doomed = temporary_beside(folder) += kOld;
  rename_folder(folder, doomed);
  sync_directory(folder_of(folder));
  fs::remove_all(doomed);
}

void remove_leftovers(const fs::path& folder, std::string_view name) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (is_temporary_name(entry.path().filename().string(), name)) found.push_back(entry.path());
  }
  for (const fs::path& path : found) {
    const int lock = lock_folder(path);
    if (lock < 0) continue;
    fs::remove_all(path, error);  // what can't be removed stays, and harms nothing
    ::close(lock);
  }
}

}  // namespace switchyard
