#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/commands.h"
#include "train/evaluation.h"

namespace switchyard {
namespace {

struct EvalOptions {
  std::string checkpoint;
  std::vector<std::string> overrides;
  bool json = false;
};

// A line a layer and modality: the share of each expert, to be read against 1 / E.
void print_routing(const std::vector<ModalityRouting>& routing) {
  if (routing.empty()) return;
  std::printf("\n%-16s %5s  share of the assignments by expert\n", "modality", "layer");
  for (const ModalityRouting& entry : routing) {
    std::printf("%-16s %5ld ", entry.modality.c_str(), entry.layer);
    for (const double share : entry.load) std::printf(" %.3f", share);
    std::printf("\n");
  }
}

int run_eval(const EvalOptions& options) {
  const auto [evaluation, step] = evaluate_checkpoint(options.checkpoint, options.overrides);
  if (options.json) {
    OrderedJson json = evaluation_json(evaluation);
    json["step"] = step;
    json["tokens"] = evaluation.tokens;
    for (const ModalityRouting& routing : evaluation.routing) {
      json["routing_by_modality"].push_back(modality_json(routing));
    }
    std::printf("%s\n", json.dump(2).c_str());
    return kExitDone;
  }
  std::printf("validation loss at step %ld, nats per token\n%-16s %10s %12s %14s %12s\n", step, "domain", "val_loss",
              "perplexity", "bits_per_byte", "tokens");
  const auto print_row = [](const std::string& name, double loss, double bits_per_byte, int64_t tokens) {
    std::printf("%-16s %10.4f %12.3f %14.4f %12s\n", name.c_str(), loss, std::exp(loss), bits_per_byte,
                with_thousands(tokens).c_str());
  };
  int64_t all = 0;
  for (const auto& [name, loss] : evaluation.domains) {
    const int64_t tokens = evaluation.tokens.at(name);
    print_row(name, loss, evaluation.domain_bits_per_byte.at(name), tokens);
    all += tokens;
  }
  print_row("all", evaluation.val_loss, evaluation.bits_per_byte, all);
  print_routing(evaluation.routing);
  return kExitDone;
}

}  // namespace

Command add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  app.add_option("CHECKPOINT", options->checkpoint, "A checkpoint folder, or a run folder (its newest)")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value, for instance eval.batches=0 for the whole set");
  app.add_flag("--json", options->json, "Print JSON");
  return [options] { return run_eval(*options); };
}

}  // namespace switchyard
