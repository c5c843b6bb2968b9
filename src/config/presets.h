// The ready-made configurations that come with the program, by name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace switchyard {

struct Preset {
  std::string name;  // "mixtral-8x7b-tiny"; "bench/wide" in folders whose names alone say little, "bench/..."
  std::filesystem::path path;
  std::string purpose;  // the first sentence of its head
};

// Where they are: SWITCHYARD_PRESETS, or from the program's place share/switchyard/configs of its prefix, or configs/
// of the source tree that it was built in. Throws ConfigError when there is none.
std::filesystem::path presets_folder();

// All of them, sorted by their place in the folder.
std::vector<Preset> list_presets();

// Whether `text` has the form preset:NAME.
bool is_preset(const std::string& text);

// The file that "preset:NAME" stands for. NAME is a file's path within the folder without ".yaml", or its last word
// where no other file has it. Throws ConfigError naming the nearest.
std::filesystem::path preset_path(const std::string& text);

// The same for a preset; another text is the path of a file, and stays as it is.
std::filesystem::path preset_or_path(const std::string& text);

}  // namespace switchyard
