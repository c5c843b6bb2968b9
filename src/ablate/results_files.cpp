#include "ablate/results_files.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "ablate/ablation_report.h"
#include "ablate/conclusion.h"
#include "base/files.h"
#include "base/text.h"

namespace switchyard {
namespace {

bool is_decimal(const std::string& text) {
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return *end == '\0' && text.find_first_not_of("0123456789+-.eE") == std::string::npos;
}

// A spreadsheet takes a cell that begins like a formula for one, unless an apostrophe comes first.
std::string csv_field(std::string text) {
  if (text.find_first_of("=+-@\t\r") == 0 && !is_decimal(text)) text.insert(0, 1, '\'');
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv_number(double value) { return std::isfinite(value) ? formatted("%.9g", value) : ""; }

std::string csv_row(const std::vector<std::string>& fields) {
  std::string row;
  for (const std::string& field : fields) row += (&field == &fields.front() ? "" : ",") + csv_field(field);
  return row + "\r\n";
}

double value_or_none(const Values& values, const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? std::nan("") : found->second;
}

std::set<std::string> domain_names(const Results& results) {
  std::set<std::string> names;
  for (const RunResult& run : results.runs) {
    for (const auto& [name, loss] : run.domains) names.insert(name);
  }
  return names;
}

OrderedJson spread_json(const Spread& spread) {
  return {{"mean", spread.mean}, {"deviation", spread.deviation}, {"count", spread.count}};
}

OrderedJson spreads_json(const std::map<std::string, Spread>& spreads) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [name, spread] : spreads) json[name] = spread_json(spread);
  return json;
}

OrderedJson assignments_json(const Setting& setting) {
  OrderedJson json = OrderedJson::object();
  for (const Assignment& one : setting.assignments) json[one.key] = flow_text(one.value);
  return json;
}

OrderedJson setting_json(const Plan& plan, const Results& results, size_t index) {
  const SettingResult& result = results.settings[index];
  OrderedJson on_front = OrderedJson::array();
  for (const auto& [measure, front] : results.front) {
    if (std::find(front.begin(), front.end(), index) != front.end()) on_front.push_back(measure);
  }
  return {{"label", plan.settings[index].label},
          {"overrides", assignments_json(plan.settings[index])},
          {"baseline", index == plan.baseline},
          {"finished_seeds", result.seeds},
          {"failed", result.failed},
          {"measures", spreads_json(result.values)},
          {"domains", spreads_json(result.domains)},
          {"on_pareto_front", std::move(on_front)}};
}

OrderedJson run_json(const Plan& plan, const PlannedRun& run, const RunResult& result) {
  OrderedJson values = OrderedJson::object();
  for (const auto& [name, value] : result.values) values[name] = value;
  OrderedJson json = {{"name", run.name},
                      {"setting", plan.settings[run.setting].label},
                      {"seed", run.seed},
                      {"status", state_name(result.state)},
                      {"steps", run.config.training.max_steps},
                      {"tokens", run.tokens},
                      {"seconds", result.seconds},
                      {"measures", std::move(values)},
                      {"domains", result.domains}};
  if (!result.error.empty()) json["error"] = result.error;
  return json;
}

// Measures of which some setting has a number.
std::vector<Measure> shown_measures(const Results& results) {
  std::vector<Measure> shown;
  for (const Measure& measure : measures()) {
    const auto has = [&](const SettingResult& setting) { return setting.values.contains(measure.name); };
    if (std::any_of(results.settings.begin(), results.settings.end(), has)) shown.push_back(measure);
  }
  return shown;
}

std::string escaped_cell(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? "\\|" : c == '\n' ? " " : std::string(1, c);
  return escaped;
}

std::string markdown_row(const std::vector<std::string>& cells) {
  std::string row = "|";
  for (const std::string& cell : cells) row += " " + escaped_cell(cell) + " |";
  return row + "\n";
}

std::string cell_of(const std::map<std::string, Spread>& spreads, const std::string& name, int decimals) {
  const auto found = spreads.find(name);
  return found == spreads.end() ? "–" : spread_text(found->second, decimals);
}

}  // namespace

const char* state_name(RunState state) {
  switch (state) {
    case RunState::kNew:
      return "not started";
    case RunState::kInterrupted:
      return "interrupted";
    case RunState::kFinished:
      return "finished";
    case RunState::kFailed:
      return "failed";
  }
  return "";
}

OrderedJson comparison_json(const Plan& plan, const Comparison& comparison) {
  return {{"setting", plan.settings[comparison.a].label},
          {"against", plan.settings[comparison.b].label},
          {"test", comparison.paired ? "paired t-test by seed" : "Welch's t-test"},
          {"difference", comparison.test.difference},
          {"t", comparison.test.t},
          {"df", comparison.test.df},
          {"p", comparison.test.p},
          {"p_corrected", comparison.corrected},
          {"significant", is_significant(comparison)}};
}

std::string results_csv(const Plan& plan, const Results& results) {
  const std::set<std::string> domains = domain_names(results);
  std::vector<std::string> head = {"setting", "seed", "status"};
  head.insert(head.end(), plan.axes.begin(), plan.axes.end());
  for (const Measure& measure : measures()) head.push_back(measure.name);
  for (const std::string& name : domains) head.push_back("val_loss." + name);
  head.insert(head.end(), {"steps", "tokens", "seconds", "run", "error"});
  std::string text = csv_row(head);
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    const PlannedRun& run = plan.runs[i];
    const RunResult& result = results.runs[i];
    const Setting& setting = plan.settings[run.setting];
    std::vector<std::string> row = {setting.label, std::to_string(run.seed), state_name(result.state)};
    row.insert(row.end(), setting.values.begin(), setting.values.end());
    for (const Measure& measure : measures()) row.push_back(csv_number(value_or_none(result.values, measure.name)));
    for (const std::string& name : domains) row.push_back(csv_number(value_or_none(result.domains, name)));
    row.insert(row.end(), {std::to_string(run.config.training.max_steps), std::to_string(run.tokens),
                           csv_number(result.seconds), run.name, result.error});
    text += csv_row(row);
  }
  return text;
}

OrderedJson results_json(const Plan& plan, const Results& results) {
  OrderedJson json = {{"title", plan.title}, {"conclusion", results.conclusion}};
  json["best"] = results.best ? OrderedJson(plan.settings[*results.best].label) : OrderedJson();
  json["baseline"] = plan.settings[plan.baseline].label;
  json["axes"] = plan.axes;
  json["seeds"] = plan.seeds;
  json["settings"] = OrderedJson::array();
  for (size_t i = 0; i < plan.settings.size(); ++i) json["settings"].push_back(setting_json(plan, results, i));
  json["best_against_next"] =
      results.best_against_next ? comparison_json(plan, *results.best_against_next) : OrderedJson();
  json["against_baseline"] = OrderedJson::array();
  for (const Comparison& one : results.against_baseline) json["against_baseline"].push_back(comparison_json(plan, one));
  for (const auto& [measure, front] : results.front) {
    for (const size_t setting : front) json["pareto_front"][measure].push_back(plan.settings[setting].label);
  }
  json["runs"] = OrderedJson::array();
  for (size_t i = 0; i < plan.runs.size(); ++i) json["runs"].push_back(run_json(plan, plan.runs[i], results.runs[i]));
  return json;
}

std::string results_markdown(const Plan& plan, const Results& results) {
  const std::vector<Measure> shown = shown_measures(results);
  std::set<std::string> domains = domain_names(results);
  if (domains.size() == 1) domains.clear();  // the same as the whole
  std::vector<std::string> head = {"setting", "seeds"};
  std::vector<std::string> rule = {"---", "---"};
  for (const Measure& measure : shown) head.push_back(measure.title);
  for (const std::string& name : domains) head.push_back("loss, " + name);
  rule.resize(head.size(), "---");
  std::string text = "# " + plan.title + "\n\n" + results.conclusion + "\n\n";
  text += markdown_row(head) + markdown_row(rule);
  for (size_t i = 0; i < plan.settings.size(); ++i) {
    const SettingResult& result = results.settings[i];
    std::vector<std::string> row = {plan.settings[i].label, std::to_string(result.seeds.size())};
    for (const Measure& measure : shown) row.push_back(cell_of(result.values, measure.name, measure.decimals));
    for (const std::string& name : domains) row.push_back(cell_of(result.domains, name, 4));
    text += markdown_row(row);
  }
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    if (results.runs[i].state != RunState::kFailed) continue;
    text += "\n`" + plan.runs[i].name + "` failed: " + escaped_cell(results.runs[i].error) + "\n";
  }
  return text;
}

void write_results(const Plan& plan, const Results& results) {
  replace_file(plan.folder / "results.csv", results_csv(plan, results));
  replace_file(plan.folder / "results.json",
               results_json(plan, results).dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  replace_file(plan.folder / "results.md", results_markdown(plan, results));
  replace_file(plan.folder / "report.html", render_ablation(plan, results));
}

}  // namespace switchyard
