#include "config/presets.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <sstream>

#include "base/errors.h"
#include "base/files.h"
#include "base/text.h"
#include "config/text_check.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "preset:";
constexpr const char* kVariable = "SWITCHYARD_PRESETS";

// Where the first sentence ends, without its full stop; the one of "et al. 2017" or "file.yaml" ends none.
size_t end_of_sentence(const std::string& text) {
  for (size_t i = 0; i + 2 < text.size(); ++i) {
    const bool ends = text[i + 1] == ' ' && std::isupper(static_cast<unsigned char>(text[i + 2])) != 0;
    if (ends && (text[i] == '.' || text[i] == '?')) return text[i] == '.' ? i : i + 1;
  }
  return text.ends_with('.') ? text.size() - 1 : text.size();
}

// Of the comment that a configuration begins with: its first sentence, up to the command that uses it.
std::string purpose_of(const std::string& text) {
  std::istringstream lines(text);
  std::string head;
  for (std::string line; std::getline(lines, line) && line.starts_with("# ") && !line.starts_with("#  ");) {
    head += (head.empty() ? "" : " ") + line.substr(2);
  }
  return head.substr(0, end_of_sentence(head));
}

// Names of models speak for themselves, as those of the folder itself do.
std::string name_of(const fs::path& within) {
  const std::string folder = within.parent_path().string();
  return folder.empty() || folder == "models" ? within.stem().string()
                                              : (within.parent_path() / within.stem()).generic_string();
}

// Files ending in .yaml below the folder, from there, sorted.
std::vector<fs::path> files_within(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".yaml") files.push_back(entry->path().lexically_relative(folder));
  }
  if (error) throw ConfigError("the folder of presets " + folder.string() + " cannot be read: " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

fs::path find_preset(const std::string& name) {
  const fs::path folder = presets_folder();
  std::vector<fs::path> found;
  std::vector<std::string> names;
  for (const fs::path& file : files_within(folder)) {
    const std::string whole = (file.parent_path() / file.stem()).generic_string();
    if (whole == name) return folder / file;
    if (file.stem() == name) found.push_back(file);
    names.insert(names.end(), {name_of(file), file.stem().string(), whole});
  }
  if (found.size() == 1) return folder / found.front();
  if (found.size() > 1) {
    throw ConfigError("there are several presets " + in_quotes(name) + " in " + folder.string() +
                      ": name one with its " + "folder, such as '" +
                      (found[0].parent_path() / found[0].stem()).generic_string() + "'");
  }
  const std::string near = nearest_word(name.substr(0, 64), names);
  throw ConfigError("there is no preset " + in_quotes(name) + " in " + folder.string() +
                    (near.empty() ? "; switchyard presets lists them" : "; did you mean '" + near + "'?"));
}

}  // namespace

fs::path presets_folder() {
  if (const char* given = std::getenv(kVariable); given != nullptr && *given != '\0') {
    if (!fs::is_directory(given)) throw ConfigError(std::string(kVariable) + "=" + given + " is no folder");
    return fs::absolute(given).lexically_normal();
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  const fs::path installed = program.parent_path() / "share/switchyard/configs";
  const fs::path source = program.parent_path().parent_path() / "configs";  // of build/release/switchyard
  for (const fs::path& folder : {installed, source}) {
    if (fs::is_directory(folder, error)) return folder;
  }
  throw ConfigError("the presets are not where they belong: neither " + installed.string() + " nor " + source.string() +
                    " is a folder; " + kVariable + " can name another one");
}

std::vector<Preset> list_presets() {
  const fs::path folder = presets_folder();
  std::vector<Preset> presets;
  for (const fs::path& file : files_within(folder)) {
    presets.push_back({name_of(file), folder / file, purpose_of(read_file(folder / file, kMostConfigBytes))});
  }
  return presets;
}

bool is_preset(const std::string& text) { return text.starts_with(kPrefix); }

fs::path preset_path(const std::string& text) { return find_preset(text.substr(kPrefix.size())); }

fs::path preset_or_path(const std::string& text) {
  // A file of such a name, unlikely as it is, is meant where there is one.
  std::error_code error;
  return is_preset(text) && !fs::exists(text, error) ? preset_path(text) : fs::path(text);
}

}  // namespace switchyard
