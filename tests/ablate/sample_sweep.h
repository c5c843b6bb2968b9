// A made-up sweep whose runs look like real ones.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ablate/results.h"
#include "tests/support/sample_run.h"

namespace switchyard::ablate_test {

struct SampleSweep {
  Plan plan;
  std::vector<RunResult> runs;

  // settings: label and how uneven the routing is.
  SampleSweep(const std::filesystem::path& root, const std::vector<std::pair<std::string, double>>& settings,
              int64_t seeds, int64_t steps) {
    plan.title = "Weight of the balancing loss <made up>";
    plan.sweep_text = "title: made up\naxes: {}\n";
    plan.folder = root;
    for (const auto& [label, imbalance] : settings) plan.settings.push_back({label, {}, {}});
    for (int64_t seed = 1; seed <= seeds; ++seed) {
      plan.seeds.push_back(seed);
      for (size_t i = 0; i < settings.size(); ++i) add_run(root, i, settings[i].second, seed, steps);
    }
  }

  void fail(size_t run, const std::string& error) {
    runs[run] = {.state = RunState::kFailed, .error = error, .seconds = 1, .values = {}, .domains = {}};
  }
  Results results() const { return conclude(plan, runs); }

 private:
  void add_run(const std::filesystem::path& root, size_t setting, double imbalance, int64_t seed, int64_t steps) {
    const std::string name = "run-" + std::to_string(setting) + "-seed-" + std::to_string(seed);
    const auto folder = test::write_sample_run(
        root, {.name = name, .steps = steps, .layers = 2, .imbalance = imbalance, .seed = static_cast<uint64_t>(seed)});
    PlannedRun run{.name = name, .setting = setting, .seed = seed, .config = {}};
    run.config.run.dir = folder.string();
    run.config.training.max_steps = steps;
    run.tokens = steps * 4096;
    plan.runs.push_back(std::move(run));
    runs.push_back(summarise(read_run_metrics(folder)));
    runs.back().state = RunState::kFinished;
    runs.back().seconds = 60;
    // The made-up losses have no noise of their own.
    runs.back().values["val_loss"] += 0.004 * static_cast<double>((seed * 7 + static_cast<int64_t>(setting) * 3) % 5);
  }
};

}  // namespace switchyard::ablate_test
