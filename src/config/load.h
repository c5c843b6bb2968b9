// From YAML text to a checked Config, and back.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "config/config.h"

namespace switchyard {

// Reads `path` (or "preset:NAME", config/presets.h), applies its `extends:` chain (a preset's keys first, relative to
// the file that names it), then the `key=value` overrides (dotted keys, YAML values), checks everything, and fills what
// follows from other keys.
// Relative globs in data.sources and `sentencepiece:FILE` become absolute, from the folder of the file that says them.
// Throws ConfigError listing every problem as "file:line:column: what is wrong", overrides as "override 'key=value'".
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// The same from text; `name` stands for the file in messages, `folder` is where relative paths start.
Config parse_config(const std::string& text, const std::string& name, const std::filesystem::path& folder,
                    const std::vector<std::string>& overrides = {});

// The configuration as YAML that load_config reads back to an equal Config. Every key is written; what was not given
// and follows from others stays null, with its value in a comment.
std::string dump_config(const Config& config);
// The same for what lies beside weights: everything that `model` and `moe` came to is spelt out.
std::string dump_config_of_weights(const Config& config);

// JSON Schema (draft 2020-12) of the configuration file: types, ranges, enumerations, defaults, descriptions.
OrderedJson config_schema();

// docs/config.md: one table per section with key, type, default, range and meaning.
std::string config_reference();

// Dotted keys whose values differ, with both values as text; used to check overrides on resume.
struct ConfigDifference {
  std::string key;
  std::string before;
  std::string after;
};
std::vector<ConfigDifference> compare_configs(const Config& before, const Config& after);

}  // namespace switchyard
