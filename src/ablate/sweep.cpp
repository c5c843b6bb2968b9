#include "ablate/sweep.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "ablate/axis_values.h"
#include "base/errors.h"
#include "base/files.h"
#include "base/text.h"
#include "config/compose.h"
#include "config/fields.h"
#include "config/presets.h"
#include "config/scalars.h"
#include "config/text_check.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostSeeds = 1000;
constexpr int64_t kLargestBudget = 1'000'000'000'000;
// Keys that belong to the sweep, and what to write instead.
const std::map<std::string, std::string> kOwnKeys = {
    {"run.dir", "each run has a folder inside the sweep's; write 'dir' at the top of the sweep file"},
    {"run.seed", "write 'seeds' at the top of the sweep file"},
};

class SweepReader {
 public:
  SweepReader(Sweep& sweep, Problems& problems) : sweep_(sweep), problems_(problems) {}

  void read(const YamlNode& root) {
    sweep_.seeds_place = root.place;
    for (const YamlEntry& entry : root.entries) {
      const auto reader = readers_.find(entry.key);
      reader == readers_.end() ? report_unknown(entry) : reader->second(entry.value);
    }
    if (root.find("base") == nullptr) {
      problem(root.place, "base", "is missing: the configuration that every run starts from");
    }
    if (root.find("axes") == nullptr && root.find("settings") == nullptr) {
      problem(root.place, "axes", "is missing: what to vary; or name the settings one by one under 'settings'");
    }
    check_mode();
    check_axes();
  }

 private:
  using Reader = std::function<void(const YamlNode&)>;

  void problem(const Place& place, const std::string& dotted, const std::string& what) {
    problems_.add(place, "key '" + dotted + "' " + what);
  }

  void report_unknown(const YamlEntry& entry) {
    std::vector<std::string> known;
    std::string list;
    for (const auto& [key, reader] : readers_) {
      known.push_back(key);
      list += (list.empty() ? "" : ", ") + key;
    }
    const std::string near = nearest_word(entry.key.substr(0, 64), known);
    const std::string hint = is_of_configuration(entry.key) ? "keys of the configuration go under 'overrides'"
                             : near.empty()                 ? "its keys are " + list
                                                            : "did you mean '" + near + "'?";
    problems_.add(entry.key_place, "key " + in_quotes(entry.key) + " is not known in a sweep; " + hint);
  }

  // "model" or "moe.top_k"
  static bool is_of_configuration(const std::string& key) {
    Config config = config_with_every_section();
    const Fields fields = fields_of(config);
    const std::string section = key.substr(0, key.find('.'));
    return std::any_of(fields.begin(), fields.end(), [&](const Field& field) { return field.key == section; });
  }

  std::string read_word(const YamlNode& node, const std::string& key) {
    if (node.is_scalar() && !node.text.empty()) return node.text;
    problem(node.place, key, "needs a text, found " + described(node));
    return "";
  }

  void read_mode(const YamlNode& node) {
    static const std::vector<std::string> kModes = {"grid", "paired", "list"};
    sweep_.mode_place = node.place;
    const auto found = std::find(kModes.begin(), kModes.end(), node.text);
    if (!node.is_scalar() || found == kModes.end()) {
      problem(node.place, "mode", "needs grid, paired or list, found " + described(node));
      return;
    }
    sweep_.mode = static_cast<SweepMode>(found - kModes.begin());
  }

  // Whether `key` may be given by a sweep.
  bool check_key(const std::string& key, const Place& place) {
    if (!is_dotted_key(key)) {
      problems_.add(place, "key " + in_quotes(key) + " needs the form of a dotted key, such as 'moe.aux_loss_coeff'");
      return false;
    }
    const auto own = kOwnKeys.find(key);
    if (own != kOwnKeys.end()) problem(place, key, "is not for a sweep to give: " + own->second);
    return own == kOwnKeys.end();
  }

  std::vector<Assignment> read_assignments(const YamlNode& node, const std::string& dotted) {
    std::vector<Assignment> assignments;
    if (node.is_null()) return assignments;  // the base as it is
    if (!node.is_map()) {
      problem(node.place, dotted, "needs a map of the configuration's keys, found " + described(node));
      return assignments;
    }
    for (const YamlEntry& entry : node.entries) {
      if (entry.key == "run") {
        for (const YamlEntry& inner : entry.value.entries) check_key("run." + inner.key, inner.key_place);
      }
      if (check_key(entry.key, entry.key_place)) assignments.push_back({entry.key, entry.key_place, entry.value});
    }
    return assignments;
  }

  void read_axes(const YamlNode& node) {
    if (!node.is_map() || node.entries.empty()) {
      problem(node.place, "axes",
              "needs a map from keys of the configuration to their values, found " + described(node));
      return;
    }
    for (const YamlEntry& entry : node.entries) {
      if (!check_key(entry.key, entry.key_place)) continue;
      Axis axis{entry.key, entry.key_place, entry.key.substr(entry.key.rfind('.') + 1), {}};
      const YamlEntry* label = entry.value.find("label");
      if (label != nullptr) axis.label = read_word(label->value, "axes." + entry.key + ".label");
      axis.values = read_axis_values(entry.value, "axes." + entry.key, problems_);
      sweep_.axes.push_back(std::move(axis));
    }
  }

  void read_settings(const YamlNode& node) {
    if (!node.is_map() || node.entries.empty()) {
      problem(node.place, "settings", "needs a map from names to keys of the configuration, found " + described(node));
      return;
    }
    for (const YamlEntry& entry : node.entries) {
      sweep_.settings.push_back({entry.key, entry.key_place, read_assignments(entry.value, "settings." + entry.key)});
    }
  }

  void read_seeds(const YamlNode& node) {
    sweep_.seeds_place = node.place;
    if (node.is_scalar()) {
      int64_t count = 0;
      std::string what = read_integer(node, count);
      if (what.empty()) what = range_problem(count, IntegerRange{1, kMostSeeds});
      if (!what.empty()) {
        problem(node.place, "seeds", what + "; a list of seeds is possible, too");
        return;
      }
      sweep_.seeds.clear();
      for (int64_t seed = 1; seed <= count; ++seed) sweep_.seeds.push_back(seed);
      return;
    }
    if (!node.is_sequence() || node.items.empty() || node.items.size() > static_cast<size_t>(kMostSeeds)) {
      problem(node.place, "seeds", "needs a number of seeds or a list of them, found " + described(node));
      return;
    }
    sweep_.seeds.clear();
    for (const YamlNode& item : node.items) {
      int64_t seed = 0;
      std::string what = read_integer(item, seed);
      if (std::find(sweep_.seeds.begin(), sweep_.seeds.end(), seed) != sweep_.seeds.end()) what = "is given twice";
      if (!what.empty()) problem(item.place, "seeds", what);
      sweep_.seeds.push_back(seed);
    }
  }

  void read_budget(const YamlNode& node) {
    const YamlEntry* only = node.is_map() && node.entries.size() == 1 ? &node.entries[0] : nullptr;
    if (only == nullptr || (only->key != "tokens" && only->key != "max_steps")) {
      problem(node.place, "budget",
              "needs {tokens: N} or {max_steps: N}, found " + (node.is_map() ? flow_text(node) : described(node)));
      return;
    }
    int64_t amount = 0;
    std::string what = read_integer(only->value, amount);
    if (what.empty()) what = range_problem(amount, IntegerRange{1, kLargestBudget});
    if (!what.empty()) problem(only->value.place, "budget." + only->key, what);
    (only->key == "tokens" ? sweep_.tokens : sweep_.max_steps) = amount;
    sweep_.budget_place = only->value.place;
  }

  void read_base(const YamlNode& node) {
    sweep_.base = read_word(node, "base");
    sweep_.base_place = node.place;
  }

  void read_baseline(const YamlNode& node) {
    sweep_.baseline = read_word(node, "baseline");
    sweep_.baseline_place = node.place;
  }

  void check_mode() {
    if (sweep_.mode == SweepMode::kList && !sweep_.axes.empty()) {
      problem(sweep_.mode_place, "mode",
              "is list, which runs the named 'settings' only; leave out 'axes', or write grid");
    }
    if (sweep_.mode != SweepMode::kPaired) return;
    for (const Axis& axis : sweep_.axes) {
      const Axis& first = sweep_.axes.front();
      if (axis.values.size() == first.values.size() || axis.values.empty()) continue;
      problem(axis.key_place, "axes." + axis.key,
              "has " + std::to_string(axis.values.size()) + " values and 'axes." + first.key + "' has " +
                  std::to_string(first.values.size()) + "; with mode: paired they go together one by one");
    }
  }

  void check_axes() {
    std::map<std::string, int> labels;
    for (const Axis& axis : sweep_.axes) ++labels[axis.label];
    for (Axis& axis : sweep_.axes) {
      if (labels[axis.label] > 1) axis.label = axis.key;
      std::set<std::string> seen;
      for (const YamlNode& value : axis.values) {
        if (sweep_.mode == SweepMode::kGrid && !seen.insert(flow_text(value)).second) {
          problem(value.place, "axes." + axis.key, "has the value " + flow_text(value) + " twice");
        }
      }
    }
  }

  Sweep& sweep_;
  Problems& problems_;
  const std::map<std::string, Reader> readers_ = {
      {"title", [this](const YamlNode& node) { sweep_.title = read_word(node, "title"); }},
      {"dir", [this](const YamlNode& node) { sweep_.dir = read_word(node, "dir"); }},
      {"base", [this](const YamlNode& node) { read_base(node); }},
      {"mode", [this](const YamlNode& node) { read_mode(node); }},
      {"overrides", [this](const YamlNode& node) { sweep_.overrides = read_assignments(node, "overrides"); }},
      {"axes", [this](const YamlNode& node) { read_axes(node); }},
      {"settings", [this](const YamlNode& node) { read_settings(node); }},
      {"seeds", [this](const YamlNode& node) { read_seeds(node); }},
      {"budget", [this](const YamlNode& node) { read_budget(node); }},
      {"baseline", [this](const YamlNode& node) { read_baseline(node); }},
  };
};

}  // namespace

std::string flow_text(const YamlNode& node) {
  std::string text;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return node.quoted ? as_yaml_string(node.text) : node.text;
    case YamlNode::Kind::kSequence:
      for (const YamlNode& item : node.items) text += (text.empty() ? "" : ", ") + flow_text(item);
      return "[" + text + "]";
    case YamlNode::Kind::kMap:
      for (const YamlEntry& entry : node.entries) {
        text += (text.empty() ? "" : ", ") + entry.key + ": " + flow_text(entry.value);
      }
      return "{" + text + "}";
  }
  return "";
}

Sweep parse_sweep(const std::string& text, const std::string& name, const fs::path& folder) {
  Problems problems;
  auto source = std::make_shared<SourceText>();
  *source = {name, fs::absolute(folder.empty() ? "." : folder).lexically_normal(), false, -1};
  const std::optional<YamlNode> root = parse_yaml(text, source, problems);
  problems.throw_if_any();
  if (!root->is_map()) {
    problems.add(root->place, "a sweep needs keys such as 'base:' and 'axes:', found " + described(*root));
    problems.throw_if_any();
  }
  Sweep sweep;
  sweep.file = name;
  sweep.text = text;
  SweepReader(sweep, problems).read(*root);
  problems.throw_if_any();
  const std::string stem = fs::path(name).stem().string();
  if (sweep.title.empty()) sweep.title = stem;
  if (sweep.dir.empty()) sweep.dir = "runs/" + stem;
  return sweep;
}

Sweep load_sweep(const fs::path& path_or_preset) {
  const fs::path path = preset_or_path(path_or_preset.string());
  std::string text;
  try {
    text = read_file(path, kMostConfigBytes);
  } catch (const Error& error) {
    throw ConfigError(error.what());
  }
  return parse_sweep(text, path.string(), path.parent_path());
}

}  // namespace switchyard
