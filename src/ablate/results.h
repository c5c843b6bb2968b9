// What came out of a sweep: numbers of each run, their spread over seeds, comparisons, and what they say.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ablate/plan.h"
#include "ablate/statistics.h"
#include "ablate/sweep_store.h"
#include "metrics/run_metrics.h"

namespace switchyard {

// A number that a finished run ends with. Routing measures are means over the MoE layers of what settled (the mean of
// the last tenth of the logged lines), dead experts their sum at the end.
struct Measure {
  const char* name;
  const char* title;
  int decimals;
};
// val_loss first. docs/ablations.md says what each one is.
const std::vector<Measure>& measures();
// Those of balance, smaller is better, against which the trade-off is drawn.
const std::vector<std::string>& balance_measures();

using Values = std::map<std::string, double>;

struct RunResult {
  RunState state = RunState::kNew;
  std::string error;
  double seconds = 0;
  Values values;   // by measure; only of a finished run, NaN where it has no such number
  Values domains;  // final validation loss by domain
};
// The numbers of one run.
RunResult summarise(const RunMetrics& metrics);

struct SettingResult {
  std::vector<int64_t> seeds;  // of its finished runs
  std::vector<double> losses;  // validation losses, as many
  size_t failed = 0;
  std::map<std::string, Spread> values;
  std::map<std::string, Spread> domains;
};

// The validation losses of setting `a` against those of `b`.
struct Comparison {
  size_t a;
  size_t b;
  bool paired;
  size_t count;  // seeds a side
  TestResult test;
  double corrected;  // p by Holm over all comparisons with the baseline, or by Bonferroni over all pairs of settings
};

// Whether the difference is more than the seeds' noise. Two seeds are too few to say so, whatever their p.
bool is_significant(const Comparison& comparison);

struct Results {
  std::vector<RunResult> runs;          // as in the plan
  std::vector<SettingResult> settings;  // as in the plan
  std::optional<size_t> best;           // lowest mean validation loss
  std::optional<size_t> next;           // second lowest
  // Where one of them is the baseline, the same as in against_baseline; else picked out of all pairs of settings.
  std::optional<Comparison> best_against_next;
  std::vector<Comparison> against_baseline;          // every other setting that can be compared
  std::map<std::string, std::vector<size_t>> front;  // settings on the Pareto front, by balance measure
  std::string conclusion;                            // in words
};

// Where both settings have the same two or more seeds, the t-test of the differences seed by seed: a seed fixes initial
// values and the order of the data in both. Otherwise Welch's, and nothing where a side has fewer than two runs.
std::optional<Comparison> compare_settings(const std::vector<SettingResult>& settings, size_t a, size_t b);

// From the numbers of the runs. Settings without a finished run take no part in comparisons.
Results conclude(const Plan& plan, std::vector<RunResult> runs);

// Reads the finished runs' folders. A folder that cannot be read throws Error.
Results collect_results(const Plan& plan, const SweepStore& store);

}  // namespace switchyard
