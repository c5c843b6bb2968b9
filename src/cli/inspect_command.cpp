#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "base/text.h"
#include "cli/any_config.h"
#include "cli/commands.h"
#include "data/dataset.h"
#include "model/accounting.h"

namespace switchyard {
namespace {

struct InspectOptions {
  std::string path;
  std::vector<std::string> overrides;
  bool json = false;
};

OrderedJson memory_json(const MemoryEstimate& memory) {
  return {{"weights", memory.weights},
          {"gradients", memory.gradients},
          {"optimizer", memory.optimizer},
          {"activations", memory.activations},
          {"total", memory.total}};
}

OrderedJson weights_json(const WeightBytes& bytes) {
  return {{"fp32", bytes.fp32}, {"bf16", bytes.bf16}, {"int8", bytes.int8}, {"int4", bytes.int4}};
}

void print_json(const Config& config, bool vocabulary_assumed) {
  const ParameterCount count = count_parameters(config);
  OrderedJson json = {{"total_parameters", count.total},
                      {"active_parameters", count.active},
                      {"flops_per_token", training_flops_per_token(config)},
                      {"recomputed_flops_per_token", recomputed_flops_per_token(config)},
                      {"forward_flops_per_token", training_flops_per_token(config) / 3},
                      {"depth_flops_saved_per_token", depth_flops_saved_per_token(config)},
                      {"vocab_size", *config.model.vocab_size},
                      {"vocab_size_assumed", vocabulary_assumed},
                      {"memory_bytes", memory_json(estimate_memory(config))},
                      {"weight_bytes", weights_json(weight_bytes(config))},
                      {"components", OrderedJson::array()}};
  for (const ComponentCost& cost : component_costs(config)) {
    json["components"].push_back({{"name", cost.name},
                                  {"total_parameters", cost.parameters.total},
                                  {"active_parameters", cost.parameters.active},
                                  {"forward_flops_per_token", cost.forward_flops}});
  }
  std::printf("%s\n", json.dump(2).c_str());
}

void print_table(const Config& config, bool vocabulary_assumed) {
  std::printf("%-28s %18s %18s %16s\n", "component", "parameters", "active", "forward FLOP/tok");
  for (const ComponentCost& cost : component_costs(config)) {
    std::printf("%-28s %18s %18s %16s\n", cost.name.c_str(), with_thousands(cost.parameters.total).c_str(),
                with_thousands(cost.parameters.active).c_str(), with_si_suffix(cost.forward_flops).c_str());
  }
  const ParameterCount count = count_parameters(config);
  const double flops = training_flops_per_token(config);
  std::printf("%-28s %18s %18s %16s\n\n", "all", with_thousands(count.total).c_str(),
              with_thousands(count.active).c_str(), with_si_suffix(flops / 3).c_str());
  std::printf("training FLOP per token  %s (forward and backward)\n", with_si_suffix(flops).c_str());
  if (config.training.recompute != Recompute::kNone) {
    std::printf("recomputed              %s FLOP per token\n",
                with_si_suffix(recomputed_flops_per_token(config)).c_str());
  }
  if (config.mixture_of_depths) {
    std::printf("saved by depths          %s FLOP per token\n",
                with_si_suffix(depth_flops_saved_per_token(config)).c_str());
  }
  const WeightBytes weights = weight_bytes(config);
  std::printf("memory of the weights    fp32 %s, bf16 %s, int8 %s, int4 %s\n", as_bytes_text(weights.fp32).c_str(),
              as_bytes_text(weights.bf16).c_str(), as_bytes_text(weights.int8).c_str(),
              as_bytes_text(weights.int4).c_str());
  const MemoryEstimate memory = estimate_memory(config);
  std::printf("memory to train          %s: weights %s, gradients %s, optimizer %s, activations about %s\n",
              as_bytes_text(memory.total).c_str(), as_bytes_text(memory.weights).c_str(),
              as_bytes_text(memory.gradients).c_str(), as_bytes_text(memory.optimizer).c_str(),
              as_bytes_text(memory.activations).c_str());
  if (vocabulary_assumed) {
    std::printf("vocabulary               %ld is assumed: model.vocab_size is not set and will be the tokenizer's\n",
                *config.model.vocab_size);
  }
}

int run_inspect(const InspectOptions& options) {
  Config config = config_of(options.path, options.overrides);
  const bool assumed = assume_vocabulary(config);
  options.json ? print_json(config, assumed) : print_table(config, assumed);
  return kExitDone;
}

}  // namespace

Command add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  app.add_option("PATH", options->path, "A config file, a checkpoint folder, or a run folder")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value");
  app.add_flag("--json", options->json, "Print JSON");
  return [options] { return run_inspect(*options); };
}

}  // namespace switchyard
