#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/commands.h"
#include "train/place_experts.h"

namespace switchyard {
namespace {

struct PlaceOptions {
  std::string checkpoint;
  std::string trace;
  int64_t ranks = 0;
  std::string out;
};

void print_line(const std::string& name, const PlacementChange& change) {
  std::printf("%-10s %14.2f %8.2f %8.2f %10.2f %8.2f %14s %12s\n", name.c_str(), change.before.choices_per_token,
              change.before.ranks_per_token, change.after.ranks_per_token, change.before.imbalance,
              change.after.imbalance, as_bytes_text(change.merged_before).c_str(),
              as_bytes_text(change.merged_after).c_str());
}

int run_place(const PlaceOptions& options) {
  const PlacedCheckpoint placed = place_checkpoint(options.checkpoint, options.trace, options.ranks, options.out);
  std::printf("%-10s %14s %17s %19s %27s\n", "", "choices/token", "ranks/token", "busiest rank/mean", "bytes/token");
  std::printf("%-10s %14s %8s %8s %10s %8s %14s %12s\n", "", "", "before", "after", "before", "after", "before",
              "after");
  for (const auto& [layer, change] : placed.layers) print_line("layer " + std::to_string(layer), change);
  print_line("all", placed.all);
  std::printf(
      "\nwrote %s: %s tokens of trace, %ld ranks\n"
      "bytes: forward and backward, where a token's choices of one rank travel as one row; a row for each choice (as "
      "train sends them) takes %s wherever experts stand\n",
      options.out.c_str(), with_thousands(placed.trace_tokens).c_str(), options.ranks,
      as_bytes_text(placed.all.unmerged).c_str());
  return kExitDone;
}

}  // namespace

Command add_place(CLI::App& app) {
  auto options = std::make_shared<PlaceOptions>();
  app.add_option("CHECKPOINT", options->checkpoint, "A checkpoint folder, or a run folder (its newest)")->required();
  app.add_option("--trace", options->trace, "Routing of this model: JSON lines of switchyard trace")->required();
  app.add_option("--expert-parallel", options->ranks, "Ranks over which the experts are spread")
      ->required()
      ->check(CLI::Range(2, 1 << 20));
  app.add_option("--out", options->out, "The checkpoint folder to write; it must be new")->required();
  return [options] { return run_place(*options); };
}

}  // namespace switchyard
