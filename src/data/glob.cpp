#include "data/glob.h"

#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "base/errors.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

// The names inside `folder` ("" is the working directory), sorted; none when it is no folder.
std::vector<std::string> names_in(const fs::path& folder) {
  std::error_code error;
  const fs::path readable = folder.empty() ? fs::path(".") : folder;
  if (!fs::is_directory(readable, error)) return {};
  std::vector<std::string> names;
  fs::directory_iterator entries(readable, error);
  while (!error && entries != fs::directory_iterator()) {
    names.push_back(entries->path().filename().string());
    entries.increment(error);
  }
  if (error) throw DataError("cannot read folder " + readable.string() + ": " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

bool is_pattern(const std::string& component) { return component.find_first_of("*?[\\") != std::string::npos; }

class Expansion {
 public:
  explicit Expansion(const fs::path& pattern) : components_(pattern.begin(), pattern.end()) {}

  std::vector<fs::path> run() {
    descend({}, 0);
    return {files_.begin(), files_.end()};
  }

 private:
  // Matches components [index, end) below `folder`.
  void descend(const fs::path& folder, size_t index) {
    if (index == components_.size()) {
      std::error_code error;
      if (fs::is_regular_file(folder, error)) files_.insert(folder.lexically_normal());
      return;
    }
    const std::string component = components_[index].string();
    if (component == "**") {
      descend_anywhere(folder, index + 1);
    } else if (!is_pattern(component)) {
      descend(folder / component, index + 1);
    } else {
      std::error_code error;
      if (fs::exists(folder / component, error)) descend(folder / component, index + 1);  // a name with brackets in it
      for (const std::string& name : names_in(folder)) {
        if (::fnmatch(component.c_str(), name.c_str(), FNM_PERIOD) == 0) descend(folder / name, index + 1);
      }
    }
  }

  // Matches components [index, end) in `folder` and in every folder below it.
  void descend_anywhere(const fs::path& folder, size_t index) {
    descend(folder, index);
    for (const std::string& name : names_in(folder)) {
      std::error_code error;
      const bool is_folder = fs::symlink_status(folder / name, error).type() == fs::file_type::directory;
      if (is_folder && name.front() != '.') descend_anywhere(folder / name, index);
    }
  }

  std::vector<fs::path> components_;
  std::set<fs::path> files_;
};

std::string why_nothing_matches(const std::string& pattern) {
  std::error_code error;
  if (fs::is_directory(pattern, error)) {
    return pattern + " is a folder: name the files in it, as in " + (fs::path(pattern) / "*.txt").string() +
           ", or with the folders below " + (fs::path(pattern) / "**/*.txt").string();
  }
  const bool braces = pattern.find('{') != std::string::npos;
  return "no file matches " + pattern + (braces ? "; '{' stands for itself: write a pattern for each word" : "");
}

}  // namespace

std::vector<fs::path> expand_glob(const std::string& pattern) { return Expansion(pattern).run(); }

std::vector<fs::path> expand_globs(const std::vector<std::string>& patterns, const std::string& source) {
  std::set<fs::path> paths;
  for (const std::string& pattern : patterns) {
    const std::vector<fs::path> found = expand_glob(pattern);
    if (found.empty()) throw DataError("source '" + source + "': " + why_nothing_matches(pattern));
    paths.insert(found.begin(), found.end());
  }
  std::vector<fs::path> files;
  std::set<fs::path> seen;
  for (const fs::path& path : paths) {
    std::error_code error;
    const fs::path canonical = fs::canonical(path, error);
    if (error) throw DataError("source '" + source + "': cannot follow " + path.string() + ": " + error.message());
    if (seen.insert(canonical).second) files.push_back(path);
  }
  return files;
}

}  // namespace switchyard
