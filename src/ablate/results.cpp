#include "ablate/results.h"

#include <algorithm>
#include <cmath>

#include "ablate/conclusion.h"
#include "metrics/condense.h"

namespace switchyard {
namespace {

constexpr double kSignificant = 0.05;
constexpr size_t kFewestSeeds = 3;

std::vector<double> column_of(const Table& table, const std::string& name) {
  const auto found = table.columns.find(name);
  return found == table.columns.end() ? std::vector<double>() : found->second;
}

double last_of(const std::vector<double>& column) { return column.empty() ? kNoNumber : column.back(); }

// One value of every MoE layer.
template <class OfColumn>
std::vector<double> over_layers(const RunMetrics& run, const std::string& name, OfColumn of_column) {
  std::vector<double> values;
  for (const auto& [index, layer] : run.layers) {
    const double value = of_column(column_of(layer.table, name));
    if (std::isfinite(value)) values.push_back(value);
  }
  return values;
}

double mean_over_layers(const RunMetrics& run, const std::string& name) {
  return spread_of(over_layers(run, name, settled_value)).mean;
}

double worst_layer(const RunMetrics& run, const std::string& name) {
  const std::vector<double> values = over_layers(run, name, settled_value);
  return values.empty() ? kNoNumber : *std::max_element(values.begin(), values.end());
}

double dead_experts(const RunMetrics& run) {
  const std::vector<double> values = over_layers(run, "dead_experts", last_of);
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? kNoNumber : sum;
}

// Values of one name over the finished runs of a setting.
std::map<std::string, Spread> spreads(const std::vector<const Values*>& runs) {
  std::map<std::string, std::vector<double>> lists;
  for (const Values* values : runs) {
    for (const auto& [name, value] : *values) {
      if (std::isfinite(value)) lists[name].push_back(value);
    }
  }
  std::map<std::string, Spread> result;
  for (const auto& [name, list] : lists) result[name] = spread_of(list);
  return result;
}

SettingResult setting_result(const Plan& plan, const std::vector<RunResult>& runs, size_t setting) {
  SettingResult result;
  std::vector<const Values*> values, domains;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (plan.runs[i].setting != setting) continue;
    if (runs[i].state == RunState::kFailed) ++result.failed;
    if (runs[i].state != RunState::kFinished) continue;
    values.push_back(&runs[i].values);
    domains.push_back(&runs[i].domains);
    const auto loss = runs[i].values.find("val_loss");
    if (loss == runs[i].values.end() || !std::isfinite(loss->second)) continue;
    result.seeds.push_back(plan.runs[i].seed);
    result.losses.push_back(loss->second);
  }
  result.values = spreads(values);
  result.domains = spreads(domains);
  return result;
}

double mean_loss(const SettingResult& setting) { return spread_of(setting.losses).mean; }

// Settings with a finished run, the lowest mean loss first.
std::vector<size_t> ranking(const std::vector<SettingResult>& settings) {
  std::vector<size_t> order;
  for (size_t i = 0; i < settings.size(); ++i) {
    if (!settings[i].losses.empty()) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return mean_loss(settings[a]) < mean_loss(settings[b]); });
  return order;
}

void compare_with_baseline(Results& results, size_t baseline) {
  std::vector<double> p;
  for (size_t i = 0; i < results.settings.size(); ++i) {
    if (i == baseline) continue;
    if (const auto comparison = compare_settings(results.settings, i, baseline)) {
      results.against_baseline.push_back(*comparison);
      p.push_back(comparison->test.p);
    }
  }
  const std::vector<double> corrected = holm_corrected(p);
  for (size_t i = 0; i < p.size(); ++i) results.against_baseline[i].corrected = corrected[i];
}

// The best setting against the next best: of all pairs the one that the same numbers picked.
std::optional<Comparison> best_against_next(const Results& results, size_t finished) {
  std::optional<Comparison> found = compare_settings(results.settings, *results.best, *results.next);
  if (!found) return found;
  for (const Comparison& one : results.against_baseline) {
    if (std::minmax(one.a, one.b) == std::minmax(found->a, found->b)) {
      found->corrected = one.corrected;
      return found;
    }
  }
  const auto pairs = static_cast<double>(finished * (finished - 1)) / 2;
  found->corrected = std::min(1.0, found->test.p * pairs);
  return found;
}

std::vector<size_t> front_of(const std::vector<SettingResult>& settings, const std::string& balance) {
  std::vector<std::pair<double, double>> points;
  for (const SettingResult& setting : settings) {
    const auto found = setting.values.find(balance);
    points.emplace_back(found == setting.values.end() ? kNoNumber : found->second.mean, mean_loss(setting));
  }
  return pareto_front(points);
}

}  // namespace

const std::vector<Measure>& measures() {
  static const std::vector<Measure> list = {
      {"val_loss", "validation loss", 4},
      {"perplexity", "perplexity", 3},
      {"load_cv", "load CV", 3},
      {"max_over_mean", "max / mean load", 3},
      {"max_violation", "max-violation", 3},
      {"worst_max_violation", "max-violation, worst layer", 3},
      {"entropy", "load entropy", 4},
      {"dead_experts", "dead experts", 1},
      {"dropped_fraction", "dropped", 4},
      {"tokens_per_second", "tokens/s", 0},
      {"train_loss", "training loss", 4},
      {"aux_loss", "balance loss", 3},
      {"token_entropy", "token entropy", 4},
  };
  return list;
}

const std::vector<std::string>& balance_measures() {
  static const std::vector<std::string> list = {"max_violation", "load_cv"};
  return list;
}

RunResult summarise(const RunMetrics& run) {
  RunResult result;
  const double max_violation = mean_over_layers(run, "max_violation");
  result.values = {{"val_loss", last_of(column_of(run.eval, "val_loss"))},
                   {"perplexity", last_of(column_of(run.eval, "perplexity"))},
                   {"train_loss", settled_value(column_of(run.train, "lm_loss"))},
                   {"aux_loss", settled_value(column_of(run.train, "aux_loss"))},
                   {"load_cv", mean_over_layers(run, "load_cv")},
                   {"max_over_mean", max_violation + 1},
                   {"max_violation", max_violation},
                   {"worst_max_violation", worst_layer(run, "max_violation")},
                   {"entropy", mean_over_layers(run, "entropy")},
                   {"token_entropy", mean_over_layers(run, "token_entropy")},
                   {"dead_experts", dead_experts(run)},
                   {"dropped_fraction", mean_over_layers(run, "dropped_fraction")},
                   {"tokens_per_second", median(column_of(run.train, "tokens_per_second"))}};
  for (const auto& [name, table] : run.domains) result.domains[name] = last_of(column_of(table, "val_loss"));
  return result;
}

std::optional<Comparison> compare_settings(const std::vector<SettingResult>& settings, size_t a, size_t b) {
  const SettingResult& left = settings[a];
  const SettingResult& right = settings[b];
  if (left.losses.size() < 2 || right.losses.size() < 2) return std::nullopt;
  const bool paired = left.seeds == right.seeds;
  const TestResult test = paired ? paired_test(left.losses, right.losses) : welch_test(left.losses, right.losses);
  return Comparison{a, b, paired, std::min(left.losses.size(), right.losses.size()), test, test.p};
}

bool is_significant(const Comparison& comparison) {
  return comparison.count >= kFewestSeeds && comparison.corrected < kSignificant;
}

Results conclude(const Plan& plan, std::vector<RunResult> runs) {
  Results results;
  results.runs = std::move(runs);
  for (size_t i = 0; i < plan.settings.size(); ++i) {
    results.settings.push_back(setting_result(plan, results.runs, i));
  }
  const std::vector<size_t> order = ranking(results.settings);
  if (!order.empty()) results.best = order[0];
  if (order.size() > 1) results.next = order[1];
  compare_with_baseline(results, plan.baseline);
  if (results.next) results.best_against_next = best_against_next(results, order.size());
  for (const std::string& balance : balance_measures()) results.front[balance] = front_of(results.settings, balance);
  results.conclusion = conclusion_of(plan, results);
  return results;
}

Results collect_results(const Plan& plan, const SweepStore& store) {
  std::vector<RunResult> runs;
  for (const PlannedRun& run : plan.runs) {
    const RunRecord& record = store.record(run);
    RunResult result;
    if (record.state == RunState::kFinished) result = summarise(read_run_metrics(store.run_folder(run)));
    result.state = record.state;
    result.error = record.error;
    result.seconds = record.seconds;
    runs.push_back(std::move(result));
  }
  return conclude(plan, std::move(runs));
}

}  // namespace switchyard
