#include "metrics/run_metrics.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "base/errors.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/text.h"
#include "metrics/jsonl.h"

namespace switchyard {
namespace {

// One line of the file and where it stands.
struct Line {
  const Json& json;
  std::string where;

  [[noreturn]] void fail(const std::string& field, const Json& found, const std::string& expected) const {
    throw Error(where + ": '" + field + "' is " + in_quotes(found.dump()) + " where " + expected + " is expected");
  }
  double number(const Json& object, const std::string& field) const {
    const auto found = object.find(field);
    if (found == object.end() || found->is_null()) return kNoNumber;
    if (!found->is_number()) fail(field, *found, "a number or null");
    return found->get<double>();
  }
  int64_t whole_number(const std::string& field) const {
    const auto found = json.find(field);
    if (found == json.end()) throw Error(where + ": the line has no '" + field + "'");
    if (!found->is_number_integer() || found->get<double>() < 0 || found->get<double>() > 1e15) {
      fail(field, *found, "a whole number from 0 on");
    }
    return found->get<int64_t>();
  }
  std::vector<double> numbers(const std::string& field) const {
    const auto found = json.find(field);
    if (found == json.end()) return {};
    if (!found->is_array()) fail(field, *found, "a list of numbers");
    std::vector<double> values;
    for (const Json& value : *found) {
      if (!value.is_number() && !value.is_null()) fail(field, value, "a number or null");
      values.push_back(value.is_null() ? kNoNumber : value.get<double>());
    }
    return values;
  }
};

// Drops the rows that a resumed run writes again. Returns how many stay.
size_t rewind(Table& table, int64_t step) {
  while (!table.step.empty() && table.step.back() >= step) {
    table.step.pop_back();
    for (auto& [name, column] : table.columns) column.pop_back();
  }
  return table.step.size();
}

void append(Table& table, const Line& line, const Json& values, std::initializer_list<const char*> columns) {
  const int64_t step = line.whole_number("step");
  rewind(table, step);
  table.step.push_back(step);
  for (const char* column : columns) table.columns[column].push_back(line.number(values, column));
}

void read_eval(RunMetrics& run, const Line& line) {
  append(run.eval, line, line.json, {"val_loss", "perplexity"});
  const auto domains = line.json.find("domains");
  if (domains == line.json.end()) return;
  if (!domains->is_object()) line.fail("domains", *domains, "an object");
  for (const auto& [name, values] : domains->items()) {
    if (!values.is_object()) line.fail(name, values, "an object");
    append(run.domains[name], line, values, {"val_loss", "perplexity"});
  }
}

void read_routing(RunMetrics& run, const Line& line) {
  const int64_t index = line.whole_number("layer");
  const int64_t step = line.whole_number("step");
  LayerMetrics& layer = run.layers[index];
  layer.load.resize(rewind(layer.table, step));
  std::vector<double> load = line.numbers("load");
  if (!layer.load.empty() && load.size() != layer.load.back().size()) {
    throw Error(line.where + ": 'load' of layer " + std::to_string(index) + " has " + std::to_string(load.size()) +
                " experts where earlier lines have " + std::to_string(layer.load.back().size()));
  }
  layer.load.push_back(std::move(load));
  append(
      layer.table, line, line.json,
      {"max_violation", "load_cv", "entropy", "token_entropy", "dead_experts", "dropped_fraction", "logit_norm", "z"});
}

void read_alarm(RunMetrics& run, const Line& line) {
  const int64_t step = line.whole_number("step");
  line.whole_number("layer");
  while (!run.alarms.empty() && run.alarms.back().at("step").get<int64_t>() > step) run.alarms.pop_back();
  run.alarms.push_back(line.json);
}

void read_start(RunMetrics& run, const Line& line) {
  run.status = RunStatus::kRunning;
  const int64_t step = line.json.contains("step") ? line.whole_number("step") : 0;
  if (step > 0) run.resumed_at.push_back(step);
  for (const auto& [key, value] : line.json.items()) {
    if (key != "event" && key != "step") run.facts[key] = value;
  }
}

void read_line(RunMetrics& run, const Line& line) {
  const auto event = line.json.find("event");
  if (event == line.json.end() || !event->is_string()) throw Error(line.where + ": the line has no 'event'");
  const auto kind = event->get<std::string>();
  if (kind == "start") read_start(run, line);
  if (kind == "end") run.status = RunStatus::kFinished;
  if (kind == "stopped") run.status = RunStatus::kStopped;
  if (kind == "eval") read_eval(run, line);
  if (kind == "routing") read_routing(run, line);
  if (kind == "alarm") read_alarm(run, line);
  if (kind == "routing_eval") {
    append(run.layers[line.whole_number("layer")].probe, line, line.json,
           {"drift", "domain_information", "domain_share"});
  }
  if (kind == "train") {
    append(run.train, line, line.json,
           {"tokens", "loss", "lm_loss", "aux_loss", "z_loss", "lr", "grad_norm", "tokens_per_second"});
    run.last_step = run.train.step.back();
  }
}

// A dense model logs zeros for losses that it has not.
void drop_router_losses_of_dense(RunMetrics& run) {
  if (!run.layers.empty()) return;
  for (const char* name : {"aux_loss", "z_loss"}) {
    const auto found = run.train.columns.find(name);
    if (found == run.train.columns.end()) continue;
    const auto is_something = [](double value) { return std::isfinite(value) && value != 0; };
    if (std::none_of(found->second.begin(), found->second.end(), is_something)) run.train.columns.erase(found);
  }
}

std::string folder_name(const std::filesystem::path& folder) {
  const std::filesystem::path whole = std::filesystem::weakly_canonical(folder);
  return whole.has_filename() ? whole.filename().string() : whole.string();
}

}  // namespace

RunMetrics read_run_metrics(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "metrics.jsonl";
  if (!std::filesystem::is_directory(folder)) {
    throw Error(folder.string() + " is not a folder; a run folder, with its metrics.jsonl, is expected");
  }
  if (!std::filesystem::exists(file)) {
    throw Error(folder.string() + " has no metrics.jsonl: it is not a run folder, or nothing was trained there yet");
  }
  RunMetrics run;
  run.name = folder_name(folder);
  const std::vector<Json> lines = read_jsonl(file);
  if (lines.empty()) throw Error(file.string() + " holds no whole line: nothing was trained there yet");
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string where = file.string() + ":" + std::to_string(i + 1);
    if (lines[i].is_null()) {
      log_warning(where + ": not a JSON object; left out");
    } else {
      read_line(run, {lines[i], where});
    }
  }
  drop_router_losses_of_dense(run);
  if (std::filesystem::exists(folder / "config.yaml")) run.config = read_file(folder / "config.yaml", 1 << 20);
  return run;
}

}  // namespace switchyard
