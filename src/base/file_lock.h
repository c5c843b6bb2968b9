// One process at a time.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

namespace switchyard {

// An advisory lock on a file. The system lets go of it when its holder ends, however it ends; the file stays.
class FileLock {
 public:
  // Opens `path`, made where it is missing, and only for reading where it can't be written (another user's, a read-only
  // disk). Nothing is locked yet. `with_children`: processes started later hold the lock, too. Throws Error.
  explicit FileLock(std::filesystem::path path, bool with_children = false);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  // Takes the lock, alone among all processes and threads, and leaves this process's name in the file. False where
  // others have held it for `patience`. Throws Error where the file system has no locks.
  bool take(std::chrono::milliseconds patience);

  // Who left its name last: "process 4711 on node7"; "another process" where none can be read.
  std::string holder() const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace switchyard
