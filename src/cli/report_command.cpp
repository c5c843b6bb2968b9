#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/errors.h"
#include "base/files.h"
#include "cli/commands.h"
#include "metrics/report.h"
#include "metrics/run_metrics.h"
#include "metrics/terminal_plot.h"

namespace switchyard {
namespace {

struct ReportOptions {
  std::vector<std::string> runs;
  std::string out;
  bool plot = false;
};

// Training and validation loss of every run.
std::string plot_losses(const std::vector<std::filesystem::path>& folders) {
  std::vector<Curve> curves;
  const auto add = [&](const std::string& label, const Table& table, const char* column) {
    const auto found = table.columns.find(column);
    if (found != table.columns.end()) {
      curves.push_back({label, {table.step.begin(), table.step.end()}, found->second});
    }
  };
  for (const auto& folder : folders) {
    const RunMetrics run = read_run_metrics(folder);
    add(run.name + " training loss", run.train, "lm_loss");
    add(run.name + " validation loss", run.eval, "val_loss");
  }
  return terminal_plot(curves, 76, 16);
}

int run_report(const ReportOptions& options) {
  const std::vector<std::filesystem::path> folders(options.runs.begin(), options.runs.end());
  for (const std::filesystem::path& folder : folders) {
    if (std::filesystem::exists(folder / "sweep.yaml") && std::filesystem::exists(folder / "report.html")) {
      throw ConfigError(folder.string() + " is the folder of a sweep, whose report is there already: " +
                        (folder / "report.html").string() + "; its runs are in " + (folder / "runs").string());
    }
  }
  const std::filesystem::path out =
      options.out.empty() ? folders.front() / "report.html" : std::filesystem::path(options.out);
  replace_file(out, render_report(folders));
  if (options.plot) std::printf("%s\n", plot_losses(folders).c_str());
  std::printf("wrote %s\n", out.c_str());
  return kExitDone;
}

}  // namespace

Command add_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  app.add_option("RUN_DIR", options->runs, "Run folders")->required();
  app.add_option("--out", options->out, "The file to write; default: report.html in the first run folder");
  app.add_flag("--plot", options->plot, "Draw the loss curves on the terminal, too");
  return [options] { return run_report(*options); };
}

}  // namespace switchyard
