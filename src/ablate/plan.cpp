#include "ablate/plan.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>

#include "base/errors.h"
#include "base/files.h"
#include "base/system.h"
#include "base/text.h"
#include "config/compose.h"
#include "config/presets.h"
#include "config/text_check.h"
#include "data/dataset.h"
#include "model/accounting.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostRuns = 10000;
// What a process holds besides its model: the program, its libraries and their buffers. Measured: 270 MB.
constexpr double kProcessBytes = 300e6;
constexpr int kCommandLineOrder = 1000;  // problems of overrides come after those of files

// The part of a file name that stands for a text.
std::string slug(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '+';
    if (plain) result += c;
    if (!plain && !result.empty() && result.back() != '-') result += '-';
  }
  while (!result.empty() && result.back() == '-') result.pop_back();
  return result.empty() || result.front() == '.' ? "setting" + result : result.substr(0, 100);
}

// A name for every setting's folders, no two alike.
std::vector<std::string> slugs_of(const std::vector<Setting>& settings) {
  std::set<std::string> taken;
  std::vector<std::string> slugs;
  for (const Setting& setting : settings) {
    std::string name = slug(setting.label);
    for (int number = 2; !taken.insert(name).second; ++number)
      name = slug(setting.label) + "_" + std::to_string(number);
    slugs.push_back(name);
  }
  return slugs;
}

// The value of `key` among overrides, which is taken out of them; "" when it is not there.
std::string take_override(std::vector<std::string>& overrides, const std::string& key) {
  std::string value;
  std::erase_if(overrides, [&](const std::string& text) {
    const bool same = text.starts_with(key + "=");
    if (same) value = text.substr(key.size() + 1);
    return same;
  });
  return value;
}

YamlNode integer_node(int64_t value, const Place& place) {
  YamlNode node;
  node.kind = YamlNode::Kind::kScalar;
  node.text = std::to_string(value);
  node.place = place;
  return node;
}

class Planner {
 public:
  Planner(const Sweep& sweep, std::vector<std::string> overrides) : sweep_(sweep), overrides_(std::move(overrides)) {
    plan_.folder = sweep_folder(sweep, overrides_);
    take_override(overrides_, "run.dir");
    plan_.title = sweep.title;
    plan_.sweep_text = sweep.text;
    plan_.seeds = sweep.seeds;
    const std::string seed = take_override(overrides_, "run.seed");
    if (!seed.empty()) plan_.seeds = {read_seed(seed)};
    for (const Axis& axis : sweep.axes) {
      plan_.axes.push_back(axis.key);
      plan_.axis_labels.push_back(axis.label);
    }
    plan_.settings = expand_settings(sweep);
    refuse_override_of_axis();
    find_baseline();
    read_base();
  }

  Plan make(int64_t threads) {
    const std::vector<std::string> slugs = slugs_of(plan_.settings);
    const size_t count = plan_.settings.size() * plan_.seeds.size();
    if (count > kMostRuns) {
      throw ConfigError(sweep_.file + ": " + std::to_string(count) + " runs; at most 10000 are possible");
    }
    if (threads == 0) {
      const int64_t share = std::max<int64_t>(1, allowed_cores() / static_cast<int64_t>(count));
      threads = threads_of_environment().value_or(share);
    }
    std::vector<std::string> problems;
    for (size_t i = 0; i < plan_.settings.size(); ++i) {
      try {
        add_runs(i, slugs[i], threads);
      } catch (const ConfigError& error) {
        note(error.what(), problems);
      }
    }
    if (!problems.empty()) throw ConfigError(joined(problems));
    const size_t seeds = plan_.seeds.size();
    std::vector<PlannedRun> by_seed;
    for (size_t s = 0; s < seeds; ++s) {
      for (size_t i = 0; i < plan_.settings.size(); ++i) by_seed.push_back(std::move(plan_.runs[i * seeds + s]));
    }
    plan_.runs = std::move(by_seed);
    return std::move(plan_);
  }

 private:
  static int64_t read_seed(const std::string& text) {
    int64_t seed = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
    if (error != std::errc() || end != text.data() + text.size()) {
      throw ConfigError("override 'run.seed=" + text + "': needs a whole number");
    }
    return seed;
  }

  static void note(const std::string& message, std::vector<std::string>& problems) {
    for (size_t start = 0; start <= message.size();) {
      const size_t end = std::min(message.find('\n', start), message.size());
      std::string line = message.substr(start, end - start);
      if (std::find(problems.begin(), problems.end(), line) == problems.end()) problems.push_back(std::move(line));
      start = end + 1;
    }
  }

  static std::string joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
    return text;
  }

  // Such an override would make all settings alike.
  void refuse_override_of_axis() const {
    for (const std::string& text : overrides_) {
      const std::string key = text.substr(0, text.find('='));
      for (const Setting& setting : plan_.settings) {
        for (const Assignment& assignment : setting.assignments) {
          if (assignment.key != key && !assignment.key.starts_with(key + ".")) continue;
          throw ConfigError("override " + in_quotes(text) + ": the sweep varies '" + assignment.key + "' (" +
                            as_text(assignment.key_place) + "), so it cannot be the same in every run");
        }
      }
    }
  }

  void find_baseline() {
    if (sweep_.baseline.empty()) return;
    std::vector<std::string> labels;
    for (const Setting& setting : plan_.settings) labels.push_back(setting.label);
    const auto found = std::find(labels.begin(), labels.end(), sweep_.baseline);
    if (found == labels.end()) {
      const std::string near = nearest_word(sweep_.baseline.substr(0, 64), labels);
      throw ConfigError(as_text(sweep_.baseline_place) +
                        ": key 'baseline' names no setting of the sweep: " + in_quotes(sweep_.baseline) +
                        (near.empty() ? "; the first one is " + in_quotes(labels.front())
                                      : "; did you mean " + in_quotes(near) + "?"));
    }
    plan_.baseline = static_cast<size_t>(found - labels.begin());
  }

  void read_base() {
    const fs::path folder = sweep_.base_place.source->folder;
    fs::path path = (folder / sweep_.base).lexically_normal();
    fs::path shown = (fs::path(sweep_.file).parent_path() / sweep_.base).lexically_normal();
    Problems problems;
    std::string text;
    try {
      if (is_preset(sweep_.base)) path = shown = preset_path(sweep_.base.string());
      text = read_file(path, kMostConfigBytes);
    } catch (const Error& error) {
      throw ConfigError(as_text(sweep_.base_place) + ": key 'base': " + error.what());
    }
    base_ = compose_tree(text, shown.string(), path.parent_path(), {}, problems);
    problems.throw_if_any();
  }

  // The configuration of one setting. `max_steps`: the budget, where the sweep gives one in tokens.
  Config config_of(const Setting& setting, int64_t seed, std::optional<int64_t> max_steps) const {
    Problems problems;
    YamlNode tree = base_;
    const auto apply = [&](const std::vector<Assignment>& assignments) {
      for (const Assignment& one : assignments) lay_over(tree, one.key, one.key_place, one.value, problems);
    };
    apply(sweep_.overrides);
    if (max_steps) {
      const Place place = sweep_.budget_place.value_or(sweep_.base_place);
      lay_over(tree, "training.max_steps", place, integer_node(*max_steps, place), problems);
    }
    apply(setting.assignments);
    lay_over(tree, "run.seed", sweep_.seeds_place, integer_node(seed, sweep_.seeds_place), problems);
    int order = kCommandLineOrder;
    for (const std::string& text : overrides_) apply_override(tree, text, order++, problems);
    return config_of_tree(tree, problems);
  }

  Config with_budget(const Setting& setting, int64_t seed) const {
    Config config = config_of(setting, seed, sweep_.max_steps);
    if (!sweep_.tokens) return config;
    const int64_t per_step = *config.training.global_batch_size * config.training.seq_length;
    return config_of(setting, seed, (*sweep_.tokens + per_step - 1) / per_step);
  }

  void add_runs(size_t index, const std::string& slug, int64_t threads) {
    std::optional<int64_t> vocabulary;  // looked up once: the same for all seeds
    for (const int64_t seed : plan_.seeds) {
      PlannedRun run{.name = slug + "-seed-" + std::to_string(seed),
                     .setting = index,
                     .seed = seed,
                     .config = with_budget(plan_.settings[index], seed)};
      run.config.run.dir = (plan_.folder / "runs" / run.name).string();
      if (run.config.training.num_threads == 0) run.config.training.num_threads = threads;
      run.tokens =
          run.config.training.max_steps * *run.config.training.global_batch_size * run.config.training.seq_length;
      Config sized = run.config;
      if (vocabulary) sized.model.vocab_size.follow(*vocabulary);
      assume_vocabulary(sized);
      vocabulary = *sized.model.vocab_size;
      run.flops = training_flops_per_token(sized) * static_cast<double>(run.tokens);
      run.memory = estimate_memory(sized).total + kProcessBytes;
      plan_.runs.push_back(std::move(run));
    }
  }

  const Sweep& sweep_;
  std::vector<std::string> overrides_;
  YamlNode base_;
  Plan plan_;
};

}  // namespace

fs::path sweep_folder(const Sweep& sweep, std::vector<std::string> overrides) {
  const std::string dir = take_override(overrides, "run.dir");
  return dir.empty() ? sweep.dir : dir;
}

Plan make_plan(const Sweep& sweep, const std::vector<std::string>& overrides, int64_t threads) {
  return Planner(sweep, overrides).make(threads);
}

}  // namespace switchyard
