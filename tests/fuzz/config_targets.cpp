// JSON, YAML, configurations, overrides and sweeps.
#include <algorithm>
#include <set>

#include "ablate/plan.h"
#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "config/load.h"
#include "config/presets.h"
#include "tests/fuzz/target.h"

namespace switchyard::fuzz {
namespace {

// Where `extends:` of the presets finds its files.
std::filesystem::path presets_of(const char* kind) {
  static const std::filesystem::path folder = presets_folder();
  return folder / kind;
}

std::vector<std::string> preset_texts(const char* kind) {
  std::vector<std::string> texts;
  for (const Preset& preset : list_presets()) {
    if (preset.path.parent_path() == presets_of(kind)) texts.push_back(read_file(preset.path));
  }
  return texts;
}

void run_json(std::string_view input) {
  Json json;
  if (!accepts<Error>([&] { json = parse_json(input, "input"); })) return;
  require(parse_json(json.dump(), "dump") == json, "dumped JSON is read back as it was");
}

std::vector<std::string> json_seeds() {
  return {R"({"a": [1, -2, 3.5e-7, true, null, "\u00e9\ud83d\ude82\n"], "b": {"c": {}}, "d": 18446744073709551615})",
          R"([[[[[[[[1e308]]]]]]], -9223372036854775808, 0.1, -0.0])", "\"\xC3\xA9\"", "[]"};
}

size_t count_nodes(const YamlNode& node, std::string_view input) {
  const auto lines = static_cast<int>(std::count(input.begin(), input.end(), '\n')) + 1;
  require(node.place.source != nullptr && node.place.line <= lines, "a node stands in its text");
  require(node.place.column <= static_cast<int>(input.size()) + 1, "a node stands in its line");
  size_t count = 1;
  for (const YamlNode& item : node.items) count += count_nodes(item, input);
  for (const YamlEntry& entry : node.entries) count += 1 + count_nodes(entry.value, input);
  return count;
}

void run_yaml(std::string_view input) {
  const auto source = std::make_shared<SourceText>(SourceText{"input", "/", false, 0});
  Problems problems;
  const std::optional<YamlNode> tree = parse_yaml(input, source, problems);
  require(tree || !problems.empty(), "a refusal says why");
  if (tree) require(count_nodes(*tree, input) <= kMostNodes, "the number of nodes is bounded");
}

std::vector<std::string> yaml_seeds() {
  return {"a: 1\nb:\n  - x\n  - {y: 'z', w: \"\\n\\x41\"}\nc: |\n  text\n  more\nd: >-\n  folded\n",
          "? key\n: value\n# comment\nlist: [1, ~, null, [a, b]]\nempty:\n",
          "&a b: *a\n--- \n!!int 3\n...\n%YAML 1.2\n"};
}

// What is dumped is read back as it was, and dumped the same.
void check_dump(const Config& config) {
  const std::string text = dump_config(config);
  Config again;
  require(accepts<ConfigError>([&] { again = parse_config(text, "dump.yaml", "/"); }), "a dumped configuration loads");
  require(compare_configs(config, again).empty(), "a dumped configuration is the same one");
  require(dump_config(again) == text, "a dumped configuration is dumped the same");
}

void run_config(std::string_view input) {
  Config config;
  if (accepts<ConfigError>([&] { config = parse_config(std::string(input), "input.yaml", presets_of("models")); })) {
    check_dump(config);
  }
}

std::vector<std::string> config_seeds() {
  std::vector<std::string> seeds = preset_texts("models");
  for (const char* name : {"deepseek-v3-tiny", "gpt2-124m-tiny", "jacobs-1991-tiny"}) {
    seeds.push_back(dump_config(load_config(std::string("preset:") + name)));  // every key there is
  }
  return seeds;
}

// Every line is an override.
void run_override(std::string_view input) {
  static const std::string base =
      "model: {hidden_size: 16, num_layers: 4, num_attention_heads: 2, vocab_size: 50}\n"
      "moe: {num_experts: 4, top_k: 2, router: top_k}\n"
      "data: {tokenizer: byte, sources: [{name: text, files: [\"*.txt\"]}]}\n"
      "training: {max_steps: 100, seq_length: 16, micro_batch_size: 4}\n";
  std::vector<std::string> overrides(1);
  for (const char c : input) c == '\n' ? void(overrides.emplace_back()) : void(overrides.back() += c);
  Config config;
  if (accepts<ConfigError>([&] { config = parse_config(base, "base.yaml", "/", overrides); })) {
    check_dump(config);
  }
}

std::vector<std::string> override_seeds() {
  return {"moe.router=switch",
          "moe.router={type: top_k, num_groups: 2}\nmoe.top_k=2",
          "model.hidden_size=256",
          "data.sources.0.files=[\"a/*.txt\", '~/b c.txt']\ndata.sources.0.weight=0.25",
          "moe=null\nmodel.bias=true",
          "data.tokenizer=sentencepiece:a.model\nrun.dir=\"runs/\\u00e9\"",
          "moe.layer_freq=[0, 1, 0, 1]",
          "optimizer.lr=1.5e-3\noptimizer.betas=[0.9, 0.95]\nmixture_of_depths={layer_freq: 2}"};
}

void run_sweep(std::string_view input) {
  Sweep sweep;
  const auto parse = [&] { sweep = parse_sweep(std::string(input), "input.yaml", presets_of("ablations")); };
  if (!accepts<ConfigError>(parse)) return;
  size_t count = 1;
  for (const Axis& axis : sweep.axes) count *= std::min<size_t>(axis.values.size(), 1000);
  if (sweep.axes.size() > 6 || count > 200) return;  // takes a while
  std::vector<Setting> settings;
  if (!accepts<ConfigError>([&] { settings = expand_settings(sweep); })) return;
  require(!settings.empty() && !sweep.seeds.empty(), "a sweep has runs");
  std::set<std::string> labels;
  for (const Setting& setting : settings) {
    require(labels.insert(setting.label).second, "settings have different names");
    require(setting.values.size() == sweep.axes.size(), "a setting says something about every axis");
  }
}

std::vector<std::string> sweep_seeds() {
  std::vector<std::string> seeds = preset_texts("ablations");
  seeds.push_back(
      "title: A question\ndir: runs/q\nbase: b.yaml\nmode: paired\n"
      "overrides: {training.seq_length: 32, model: {num_layers: 3}}\n"
      "axes:\n  moe.top_k: {label: k, values: [1, 2]}\n  optimizer.lr: {log_range: {from: 1e-4, to: 1e-3, steps: 2}}\n"
      "settings:\n  no experts: {moe: null}\nseeds: [3, 5]\nbudget: {tokens: 5000}\nbaseline: no experts\n");
  return seeds;
}

}  // namespace

std::vector<Target> config_targets() {
  return {{"json", run_json, json_seeds},
          {"yaml", run_yaml, yaml_seeds},
          {"config", run_config, config_seeds},
          {"override", run_override, override_seeds},
          {"sweep", run_sweep, sweep_seeds}};
}

}  // namespace switchyard::fuzz
