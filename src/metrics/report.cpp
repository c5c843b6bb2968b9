#include "metrics/report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/errors.h"
#include "metrics/condense.h"
#include "metrics/page.h"
#include "metrics/run_metrics.h"

namespace switchyard {
namespace {

// What the page may hold over all runs, so that it stays a few megabytes: rows of the training table, and cells of the
// load pictures.
constexpr size_t kRows = 12000;
constexpr size_t kMaxRowsPerRun = 1000;
constexpr size_t kLoadCells = 300000;
constexpr size_t kMaxLoadColumns = 240;

using page::rounded;

size_t share_of(size_t budget, size_t parts, size_t most) {
  return std::clamp<size_t>(budget / std::max<size_t>(1, parts), 1, most);
}

bool has_number(const std::vector<double>& values) {
  return std::any_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

// {"step": [...], "bucket": rows a bucket, "columns": {name: {"mean": [...], "low", "high" (where buckets hold
// several)}}}
Json table_json(const Table& table, size_t max_rows) {
  const Buckets buckets(table.step.size(), max_rows);
  Json columns = Json::object();
  for (const auto& [name, values] : table.columns) {
    if (!has_number(values)) continue;
    const Condensed condensed = condense(values, buckets);
    const int digits = name == "tokens" ? 15 : 6;
    Json column = {{"mean", rounded(condensed.mean, digits)}};
    if (buckets.size > 1) {
      column["low"] = rounded(condensed.low, digits);
      column["high"] = rounded(condensed.high, digits);
    }
    columns[name] = std::move(column);
  }
  return {{"step", condense_steps(table.step, buckets)}, {"bucket", buckets.size}, {"columns", std::move(columns)}};
}

std::vector<double> column_of(const Table& table, const std::string& name) {
  const auto found = table.columns.find(name);
  return found == table.columns.end() ? std::vector<double>() : found->second;
}

Json layer_json(int64_t index, const LayerMetrics& layer, size_t max_rows) {
  Json json = table_json(layer.table, max_rows);
  json["layer"] = index;
  for (const char* name : {"max_violation", "dropped_fraction"}) {
    json["settled"][name] = rounded(settled_value(column_of(layer.table, name)), 6);
  }
  json["probe"] = table_json(layer.probe, max_rows);
  json["load"] = Json::array();
  for (const std::vector<double>& row : condense_rows(layer.load, Buckets(layer.load.size(), max_rows))) {
    json["load"].push_back(rounded(row, 4));
  }
  return json;
}

double last_finite(const Table& table, const std::string& column) {
  const auto found = table.columns.find(column);
  if (found == table.columns.end()) return std::numeric_limits<double>::quiet_NaN();
  const auto last =
      std::find_if(found->second.rbegin(), found->second.rend(), [](double value) { return std::isfinite(value); });
  return last == found->second.rend() ? std::numeric_limits<double>::quiet_NaN() : *last;
}

// The settled values of one column, a layer each.
std::vector<double> settled_over_layers(const RunMetrics& run, const std::string& name) {
  std::vector<double> values;
  for (const auto& [index, layer] : run.layers) {
    const double value = settled_value(column_of(layer.table, name));
    if (std::isfinite(value)) values.push_back(value);
  }
  return values;
}

Json worst(const std::vector<double>& values, bool largest) {
  if (values.empty()) return nullptr;
  return rounded(
      largest ? *std::max_element(values.begin(), values.end()) : *std::min_element(values.begin(), values.end()), 6);
}

// Without the router's losses where they are told apart, so that dense and MoE runs compare.
std::vector<double> training_loss(const RunMetrics& run) {
  const std::vector<double> loss = column_of(run.train, "lm_loss");
  return has_number(loss) ? loss : column_of(run.train, "loss");
}

// The numbers of the page's first table.
Json summary_json(const RunMetrics& run) {
  Json domains = Json::object();
  for (const auto& [name, table] : run.domains) domains[name] = rounded(last_finite(table, "val_loss"), 6);
  double dead = run.layers.empty() ? std::numeric_limits<double>::quiet_NaN() : 0.0;
  for (const auto& [index, layer] : run.layers) {
    const double here = last_finite(layer.table, "dead_experts");
    if (std::isfinite(here)) dead += here;
  }
  return {{"val_loss", rounded(last_finite(run.eval, "val_loss"), 6)},
          {"perplexity", rounded(last_finite(run.eval, "perplexity"), 6)},
          {"domains", std::move(domains)},
          {"train_loss", rounded(settled_value(training_loss(run)), 6)},
          {"aux_loss", rounded(settled_value(column_of(run.train, "aux_loss")), 6)},
          {"max_violation", worst(settled_over_layers(run, "max_violation"), true)},
          {"entropy", worst(settled_over_layers(run, "entropy"), false)},
          {"dropped_fraction", worst(settled_over_layers(run, "dropped_fraction"), true)},
          {"dead_experts", rounded(dead, 15)},
          {"tokens_per_second", rounded(median(column_of(run.train, "tokens_per_second")), 6)},
          {"tokens", rounded(last_finite(run.train, "tokens"), 15)},
          {"alarms", run.alarms.size()},
          {"step", run.last_step}};
}

const char* status_text(RunStatus status) {
  switch (status) {
    case RunStatus::kRunning:
      return "running";
    case RunStatus::kStopped:
      return "stopped";
    case RunStatus::kFinished:
      return "finished";
  }
  return "";
}

size_t load_rows(const std::vector<RunMetrics>& runs) {
  size_t rows = 0;
  for (const RunMetrics& run : runs) {
    for (const auto& [index, layer] : run.layers) rows += layer.load.empty() ? 0 : layer.load.back().size();
  }
  return rows;
}

Json run_json(const RunMetrics& run, size_t max_rows, size_t max_columns) {
  Json domains = Json::object();
  for (const auto& [name, table] : run.domains) domains[name] = table_json(table, max_rows);
  Json layers = Json::array();
  for (const auto& [index, layer] : run.layers) layers.push_back(layer_json(index, layer, max_columns));
  // The newest ones, as read; the page shows only text of them.
  constexpr size_t kAlarms = 200;
  const size_t first = run.alarms.size() - std::min(kAlarms, run.alarms.size());
  return {{"name", run.name},
          {"alarms", std::vector<Json>(run.alarms.begin() + static_cast<int64_t>(first), run.alarms.end())},
          {"facts", run.facts},
          {"status", status_text(run.status)},
          {"resumed_at", run.resumed_at},
          {"config", run.config},
          {"summary", summary_json(run)},
          {"train", table_json(run.train, max_rows)},
          {"eval", table_json(run.eval, max_rows)},
          {"domains", std::move(domains)},
          {"layers", std::move(layers)}};
}

// Runs of one name are told apart by the folder above, and failing that by number.
void make_names_distinct(std::vector<RunMetrics>& runs, const std::vector<std::filesystem::path>& folders) {
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (const RunMetrics& run : runs) names.push_back(run.name);
  for (size_t i = 0; i < runs.size(); ++i) {
    std::string name = names[i];
    if (std::count(names.begin(), names.end(), name) > 1) {
      name = std::filesystem::weakly_canonical(folders[i]).parent_path().filename().string() + "/" + name;
    }
    runs[i].name = name;
    for (int number = 2; !taken.insert(runs[i].name).second; ++number) {
      runs[i].name = name + " (" + std::to_string(number) + ")";
    }
  }
}

}  // namespace

std::string render_report(const std::vector<std::filesystem::path>& folders) {
  if (folders.empty()) throw Error("a report needs at least one run folder");
  std::vector<RunMetrics> runs;
  for (const std::filesystem::path& folder : folders) runs.push_back(read_run_metrics(folder));
  make_names_distinct(runs, folders);
  Json data = {{"runs", Json::array()}};
  for (const RunMetrics& run : runs) {
    data["runs"].push_back(run_json(run, share_of(kRows, runs.size(), kMaxRowsPerRun),
                                    share_of(kLoadCells, load_rows(runs), kMaxLoadColumns)));
  }
  const std::string title = runs.size() == 1 ? runs[0].name : std::to_string(runs.size()) + " runs";
  return page::render(page::kScript, title, "switchyard report", data);
}

}  // namespace switchyard
