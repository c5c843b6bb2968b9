#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "ablate/plan.h"
#include "ablate/results.h"
#include "ablate/results_files.h"
#include "ablate/runner.h"
#include "ablate/sweep_store.h"
#include "base/errors.h"
#include "base/logging.h"
#include "base/text.h"
#include "cli/commands.h"

namespace switchyard {
namespace {

struct AblateOptions {
  std::string sweep;
  std::vector<std::string> overrides;
  int64_t jobs = 0;
  bool only_plan = false;
  StoreOptions store;
};

void print_plan(const Plan& plan, int64_t jobs) {
  int64_t tokens = 0;
  for (const PlannedRun& run : plan.runs) tokens += run.tokens;
  const PlannedRun& first = plan.runs.front();
  std::printf("%s: %zu settings x %zu %s = %zu runs in %s\n", plan.title.c_str(), plan.settings.size(),
              plan.seeds.size(), plan.seeds.size() == 1 ? "seed" : "seeds", plan.runs.size(), plan.folder.c_str());
  for (size_t i = 0; i < plan.settings.size(); ++i) {
    std::printf("  %s%s\n", plan.settings[i].label.c_str(), i == plan.baseline ? " (baseline)" : "");
  }
  std::printf("the first run: %s steps, %s tokens; all: %s tokens\n",
              with_thousands(first.config.training.max_steps).c_str(), with_thousands(first.tokens).c_str(),
              with_thousands(tokens).c_str());
  std::printf("%ld at a time, %ld threads each\n", jobs, first.config.training.num_threads);
  std::fflush(stdout);
}

void print_state(const Plan& plan, const SweepStore& store, int64_t jobs) {
  std::map<RunState, int64_t> counts;
  for (const PlannedRun& run : plan.runs) ++counts[store.record(run).state];
  std::printf("finished %ld, to go on with %ld, failed %ld, new %ld\n", counts[RunState::kFinished],
              counts[RunState::kInterrupted], counts[RunState::kFailed], counts[RunState::kNew]);
  if (counts[RunState::kInterrupted] + counts[RunState::kNew] > 0) {
    const double seconds = expected_seconds(plan, store, jobs);
    std::printf("expected time: %s\n", std::isnan(seconds)
                                           ? "known when the first run is a tenth done"
                                           : (as_duration(seconds) + ", by the speed of the finished runs").c_str());
  }
  if (!store.strangers().empty()) {
    log_warning(
        formatted("%zu run folders are not (or no longer) part of the sweep, the first of them %s: they are left "
                  "alone and out of the results",
                  store.strangers().size(), store.strangers().front().c_str()));
  }
  std::fflush(stdout);
}

int run_ablate(const AblateOptions& options) {
  const Sweep sweep = load_sweep(options.sweep);
  const Plan plan = make_plan(sweep, options.overrides, stored_threads(sweep_folder(sweep, options.overrides)));
  const int64_t jobs = options.jobs > 0 ? options.jobs : jobs_that_fit(plan);
  print_plan(plan, jobs);
  if (options.only_plan) return kExitDone;
  SweepStore store(plan, options.store);
  print_state(plan, store, jobs);
  const auto write = [&] { write_results(plan, collect_results(plan, store)); };
  write();
  const SweepOutcome outcome = run_sweep(plan, store, jobs, write);
  const Results results = collect_results(plan, store);
  std::printf("%s\nwrote %s, results.md, results.csv and results.json\n", results_markdown(plan, results).c_str(),
              (plan.folder / "report.html").c_str());
  switch (outcome) {
    case SweepOutcome::kDone:
      return kExitDone;
    case SweepOutcome::kSomeFailed:
      log_error("some runs failed; to run them again: --retry-failed");
      return kExitFailed;
    case SweepOutcome::kStopped:
      log_info("stopped; the same command goes on");
      return kExitStopped;
  }
  return kExitFailed;
}

}  // namespace

Command add_ablate(CLI::App& app) {
  auto options = std::make_shared<AblateOptions>();
  app.add_option("SWEEP", options->sweep, "A sweep file (docs/ablations.md)")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value for every run; run.dir= is the sweep's folder");
  app.add_option("--jobs", options->jobs, "Runs at a time; default: as many as cores and memory allow")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--plan", options->only_plan, "Print what would be run, and end");
  app.add_flag("--retry-failed", options->store.retry_failed, "Run failed runs again, from the start");
  app.add_flag("--redo-changed", options->store.redo_changed,
               "Run again, from the start, what was made with another configuration than the sweep has now");
  return [options] { return run_ablate(*options); };
}

}  // namespace switchyard
