#include "ablate/ablation_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "ablate/results_files.h"
#include "metrics/condense.h"
#include "metrics/page.h"

namespace switchyard {
namespace {

using page::rounded;

// Points of all curves together, so that the page stays a few megabytes; a curve's share of them is in these bounds.
constexpr size_t kPoints = 60000;
constexpr size_t kLeastPoints = 20;
constexpr size_t kMostPoints = 250;
constexpr size_t kCurvesOfSetting = 10;
constexpr int kDigits = 5;

// Values of several runs at each step.
using Series = std::map<int64_t, std::vector<double>>;

void add_column(Series& series, const Table& table, const std::string& column) {
  const auto found = table.columns.find(column);
  if (found == table.columns.end()) return;
  for (size_t i = 0; i < table.step.size(); ++i) {
    if (std::isfinite(found->second[i])) series[table.step[i]].push_back(found->second[i]);
  }
}

// The layers' values of one run, joined to one value a step.
void add_over_layers(Series& series, const RunMetrics& run, const std::string& column, bool sum) {
  Series layers;
  for (const auto& [index, layer] : run.layers) add_column(layers, layer.table, column);
  for (const auto& [step, values] : layers) {
    const double mean = spread_of(values).mean;
    series[step].push_back(sum ? mean * static_cast<double>(values.size()) : mean);
  }
}

// A setting's curves by name, over its finished runs.
std::map<std::string, Series> curves_of(const std::vector<RunMetrics>& runs) {
  std::map<std::string, Series> curves;
  for (const RunMetrics& run : runs) {
    add_column(curves["val_loss"], run.eval, "val_loss");
    for (const char* name : {"lm_loss", "aux_loss"}) add_column(curves[name], run.train, name);
    for (const auto& [name, table] : run.domains) add_column(curves["domain:" + name], table, "val_loss");
    for (const char* name : {"max_violation", "load_cv", "entropy", "dropped_fraction"}) {
      add_over_layers(curves[name], run, name, false);
    }
    add_over_layers(curves["dead_experts"], run, "dead_experts", true);
  }
  return curves;
}

// {"step", "mean"} and, where there are several runs, {"low", "high"}.
Json curve_json(const Series& series, size_t runs, size_t most) {
  std::vector<int64_t> steps;
  std::vector<double> mean, low, high;
  for (const auto& [step, values] : series) {
    steps.push_back(step);
    mean.push_back(spread_of(values).mean);
    low.push_back(*std::min_element(values.begin(), values.end()));
    high.push_back(*std::max_element(values.begin(), values.end()));
  }
  const Buckets buckets(steps.size(), most);
  Json json = {{"step", condense_steps(steps, buckets)}, {"mean", rounded(condense(mean, buckets).mean, kDigits)}};
  if (runs > 1 || buckets.size > 1) {
    json["low"] = rounded(condense(low, buckets).low, kDigits);
    json["high"] = rounded(condense(high, buckets).high, kDigits);
  }
  return json;
}

Json rounded_spreads(const std::map<std::string, Spread>& spreads) {
  Json json = Json::object();
  for (const auto& [name, spread] : spreads) {
    json[name] = {{"mean", rounded(spread.mean, 9)}, {"deviation", rounded(spread.deviation, 6)}};
  }
  return json;
}

bool is_zero(const Series& series) {
  return std::all_of(series.begin(), series.end(), [](const auto& at) {
    return std::all_of(at.second.begin(), at.second.end(), [](double value) { return value == 0; });
  });
}

class DataBuilder {
 public:
  DataBuilder(const Plan& plan, const Results& results) : plan_(plan), results_(results) {}

  Json make() {
    Json data = {{"title", plan_.title},
                 {"conclusion", results_.conclusion},
                 {"seeds", plan_.seeds},
                 {"sweep", plan_.sweep_text},
                 {"balance_measures", balance_measures()},
                 {"measures", Json::array()},
                 {"settings", Json::array()},
                 {"runs", Json::array()},
                 {"comparisons", Json::array()},
                 {"front", Json::object()}};
    data["best"] = results_.best ? Json(plan_.settings[*results_.best].label) : Json();
    for (const Measure& measure : measures()) {
      data["measures"].push_back({{"name", measure.name}, {"title", measure.title}, {"decimals", measure.decimals}});
    }
    for (size_t i = 0; i < plan_.settings.size(); ++i) data["settings"].push_back(setting(i));
    drop_curves_of_zeros(data["settings"]);
    for (size_t i = 0; i < plan_.runs.size(); ++i) data["runs"].push_back(run(i));
    for (const Comparison& one : results_.against_baseline)
      data["comparisons"].push_back(Json(comparison_json(plan_, one)));
    for (const auto& [measure, front] : results_.front) {
      for (const size_t index : front) data["front"][measure].push_back(plan_.settings[index].label);
    }
    return data;
  }

 private:
  Json setting(size_t index) {
    const SettingResult& result = results_.settings[index];
    std::vector<RunMetrics> runs;
    int64_t tokens_per_step = 0;
    for (size_t i = 0; i < plan_.runs.size(); ++i) {
      const PlannedRun& run = plan_.runs[i];
      if (run.setting != index) continue;
      tokens_per_step = run.tokens / run.config.training.max_steps;
      if (results_.runs[i].state == RunState::kFinished) runs.push_back(read_run_metrics(run.config.run.dir));
    }
    Json curves = Json::object();
    const size_t most = std::clamp(kPoints / (plan_.settings.size() * kCurvesOfSetting), kLeastPoints, kMostPoints);
    for (const auto& [name, series] : curves_of(runs)) {
      if (series.empty()) continue;
      curves[name] = curve_json(series, runs.size(), most);
      if (!is_zero(series)) nonzero_.insert(name);
    }
    return {{"name", plan_.settings[index].label},
            {"baseline", index == plan_.baseline},
            {"finished", result.seeds.size()},
            {"failed", result.failed},
            {"tokens_per_step", tokens_per_step},
            {"measures", rounded_spreads(result.values)},
            {"domains", rounded_spreads(result.domains)},
            {"curves", std::move(curves)}};
  }

  // Without a capacity nothing is dropped, and often no expert dies: such charts would say nothing.
  void drop_curves_of_zeros(Json& settings) const {
    for (Json& setting : settings) {
      for (const char* name : {"dropped_fraction", "dead_experts"}) {
        if (!nonzero_.contains(name)) setting["curves"].erase(name);
      }
    }
  }

  Json run(size_t index) const {
    const PlannedRun& run = plan_.runs[index];
    const RunResult& result = results_.runs[index];
    Json values = Json::object();
    for (const auto& [name, value] : result.values) values[name] = rounded(value, 7);
    return {{"name", run.name},      {"setting", plan_.settings[run.setting].label},
            {"seed", run.seed},      {"status", state_name(result.state)},
            {"tokens", run.tokens},  {"seconds", rounded(result.seconds, 4)},
            {"error", result.error}, {"measures", std::move(values)}};
  }

  const Plan& plan_;
  const Results& results_;
  std::set<std::string> nonzero_;
};

}  // namespace

std::string render_ablation(const Plan& plan, const Results& results) {
  return page::render(page::kAblationScript, plan.title, "switchyard ablate", DataBuilder(plan, results).make());
}

}  // namespace switchyard
