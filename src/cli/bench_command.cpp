#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/commands.h"
#include "config/load.h"
#include "train/bench.h"

namespace switchyard {
namespace {

struct BenchCommandOptions {
  std::string config;
  std::vector<std::string> overrides;
  BenchOptions bench;
  bool json = false;
};

// A line for each part that takes time, the longest first.
void print_parts(const OrderedJson& parts) {
  std::vector<std::pair<double, std::string>> sorted;
  double sum = 0;
  for (const auto& [name, seconds] : parts.items()) {
    sorted.emplace_back(seconds.get<double>(), name);
    sum += seconds.get<double>();
  }
  std::sort(sorted.rbegin(), sorted.rend());
  for (const auto& [seconds, name] : sorted) {
    if (seconds > 0) std::printf("  %-14s %9.2f ms  %5.1f %%\n", name.c_str(), 1e3 * seconds, 100 * seconds / sum);
  }
}

int run(const BenchCommandOptions& options) {
  const OrderedJson result = run_bench(load_config(options.config, options.overrides), options.bench);
  if (result["rank"].get<int>() > 0) return kExitDone;  // the first rank speaks for all
  if (options.json) {
    std::printf("%s\n", result.dump(2).c_str());
    return kExitDone;
  }
  std::printf(
      "%s tokens/s  (median step %.1f ms, %.1f to %.1f; %s parameters, %s active; %s, %d ranks of %d threads, %s)\n",
      with_thousands(static_cast<int64_t>(result["tokens_per_second"].get<double>())).c_str(),
      1e3 * result["step_seconds"].get<double>(), 1e3 * result["step_seconds_min"].get<double>(),
      1e3 * result["step_seconds_max"].get<double>(), with_si_suffix(result["parameters"].get<double>()).c_str(),
      with_si_suffix(result["active_parameters"].get<double>()).c_str(), result["precision"].get<std::string>().c_str(),
      result["ranks"].get<int>(), result["threads"].get<int>(), result["instruction_set"].get<std::string>().c_str());
  std::printf("%s FLOP/s, %.0f %% of the %s FLOP/s of a square matrix product here; peak memory %s\n",
              with_si_suffix(result["flops_per_second"].get<double>()).c_str(),
              100 * result["gemm_flops_share"].get<double>(),
              with_si_suffix(result["gemm_flops_per_second"].get<double>()).c_str(),
              as_bytes_text(result["peak_memory_bytes"].get<double>()).c_str());
  print_parts(result["parts"]);
  return kExitDone;
}

}  // namespace

Command add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchCommandOptions>();
  app.add_option("CONFIG", options->config, "A YAML file; its data section is not used")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value");
  app.add_option("--steps", options->bench.steps, "Timed steps")->check(CLI::Range(1, 100000))->capture_default_str();
  app.add_option("--warmup", options->bench.warmup_steps, "Steps before them")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  app.add_option("--trace", options->bench.trace,
                 "Write one more step as a Chrome trace (ui.perfetto.dev) to this file");
  app.add_flag("--json", options->json, "Print JSON");
  return [options] { return run(*options); };
}

}  // namespace switchyard
