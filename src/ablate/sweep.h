// A sweep file: what is varied, over what, and how long each run is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config/yaml_tree.h"

namespace switchyard {

// A dotted key of the configuration and the value that a sweep gives it.
struct Assignment {
  std::string key;
  Place key_place;
  YamlNode value;
};

// One thing that is varied.
struct Axis {
  std::string key;
  Place key_place;
  std::string label;             // what its values are called in tables; default: the last word of the key
  std::vector<YamlNode> values;  // not empty, no two alike
};

// Assignments that go together under a name.
struct NamedSetting {
  std::string label;
  Place place;
  std::vector<Assignment> assignments;
};

enum class SweepMode {
  kGrid,    // every combination of the axes' values
  kPaired,  // the i-th values of all axes together
  kList,    // no axes: only the named settings
};

struct Sweep {
  std::string file;  // as messages show it
  std::string text;  // of the file
  std::string title;
  std::string dir;
  std::filesystem::path base;
  Place base_place;
  SweepMode mode = SweepMode::kGrid;
  Place mode_place;
  std::vector<Assignment> overrides;  // in every run
  std::vector<Axis> axes;
  std::vector<NamedSetting> settings;
  std::vector<int64_t> seeds = {1};
  Place seeds_place;
  std::optional<int64_t> max_steps;  // of every run; at most one of these two
  std::optional<int64_t> tokens;
  std::optional<Place> budget_place;
  std::string baseline;  // a label; empty: the first setting
  Place baseline_place;
};

// Reads a sweep file (docs/ablations.md has its keys) or preset (config/presets.h). Throws ConfigError with every
// problem as "file:line:column: what".
Sweep load_sweep(const std::filesystem::path& path);
// The same from text; `name` stands for the file in messages, `folder` is where relative paths start.
Sweep parse_sweep(const std::string& text, const std::string& name, const std::filesystem::path& folder);

// A node as it would stand on one line of YAML: 0.01, [1, 0], {type: hash}.
std::string flow_text(const YamlNode& node);

}  // namespace switchyard
