#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/commands.h"
#include "train/serve_report.h"

namespace switchyard {
namespace {

struct ServeReportOptions {
  std::string checkpoint;
  std::vector<std::string> overrides;
  ServingOptions serving;
  bool data = false;
  bool json = false;
};

void print_report(const OrderedJson& report) {
  std::printf("%-14s %6s %9s %10s %10s %14s %10s %11s %11s\n", "traffic", "batch", "experts", "by chance", "max/mean",
              "bytes a token", "tokens/s", "median ms", "p99 ms");
  for (const OrderedJson& row : report["traffic"]) {
    std::printf("%-14s %6ld %9.2f %10.2f %10.2f %14s %10.0f %11.2f %11.2f\n", row["traffic"].get<std::string>().c_str(),
                row["batch_size"].get<long>(), row["experts_touched"].get<double>(),
                row["experts_touched_by_chance"].get<double>(), row["load_imbalance"].get<double>(),
                as_bytes_text(row["bytes_per_token"].get<double>()).c_str(), row["tokens_per_second"].get<double>(),
                1e3 * row["latency_median"].get<double>(), 1e3 * row["latency_p99"].get<double>());
  }
  std::printf("\nExperts over %d devices, planned on the first half of the mixed traffic, judged on second halves:\n",
              report["devices"].get<int>());
  std::printf("%-14s %-26s %12s %20s\n", "traffic", "placement", "max/mean", "devices of a token");
  for (const OrderedJson& row : report["placement"]) {
    std::printf("%-14s %-26s %12.3f %20.3f\n", row["traffic"].get<std::string>().c_str(),
                row["placement"].get<std::string>().c_str(), row["imbalance"].get<double>(),
                row["devices_per_token"].get<double>());
  }
}

int run_serve_report(const ServeReportOptions& options) {
  const OrderedJson report = serve_report(options.checkpoint, options.overrides, options.serving);
  if (options.json) {
    std::printf("%s\n", report.dump(2).c_str());
  } else {
    print_report(report);
  }
  return kExitDone;
}

}  // namespace

Command add_serve_report(CLI::App& app) {
  auto options = std::make_shared<ServeReportOptions>();
  ServingOptions& serving = options->serving;
  app.add_option("CHECKPOINT", options->checkpoint, "A checkpoint folder, or a run folder (its newest)")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value, for instance training.num_threads=1");
  app.add_flag("--data", options->data, "Serve the validation data of the configuration (as without it)");
  app.add_option("--batch-sizes", serving.batch_sizes, "Texts that are decoded together, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
      ->capture_default_str();
  app.add_option("--prompt", serving.prompt, "Tokens of each text that are read before the measured ones")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--steps", serving.steps, "Measured decoding steps of each batch")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--devices", serving.devices, "Devices that the experts are placed on")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_flag("--json", options->json, "Print JSON");
  return [options] { return run_serve_report(*options); };
}

}  // namespace switchyard
