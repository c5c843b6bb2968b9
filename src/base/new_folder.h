// Folders that are there whole or not at all.
#pragma once

#include <filesystem>
#include <string_view>

namespace switchyard {

// Makes a folder and those above it that are missing, each entry flushed to the disk. Throws Error.
void create_folders(const std::filesystem::path& folder);

// A folder that is written as `.tmp-NAME-PID` beside its place, and removed unless it gets there.
class NewFolder {
 public:
  // Makes the folders above, and removes what killed processes left of this one. Throws Error when something else has
  // the temporary name: nothing is written through what others put there.
  explicit NewFolder(const std::filesystem::path& target);
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  // Where to write until then.
  const std::filesystem::path& path() const { return path_; }
  // Gives it the target's name, entries flushed. Throws Error, also when the target is there and not empty.
  void commit();
  // The same in the place of what is there.
  void replace();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;
  int lock_ = -1;  // on the folder itself, while the process lives
};

// Takes a folder's name away (`.tmp-NAME-PID-old`) before its files, so that one removed by half never looks whole.
void remove_folder(const std::filesystem::path& folder);

// Removes what killed processes left beside `name` (of any name, if empty) in `folder`: temporary folders that no
// process holds. (Asking whether the process in the name lives would be wrong across containers.)
void remove_leftovers(const std::filesystem::path& folder, std::string_view name = {});

}  // namespace switchyard
