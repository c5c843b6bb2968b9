#include "model/accounting.h"

#include "model/accounting_block.h"

namespace switchyard {
namespace {

bool is_feed_forward(const ComponentCost& cost) {
  return cost.name.ends_with("experts") || cost.name.ends_with("feed-forward") || cost.name.ends_with("dense residual");
}

}  // namespace

std::vector<ComponentCost> component_costs(const Config& config) {
  const ModelConfig& model = config.model;
  const int64_t vocabulary = *model.vocab_size * model.hidden_size;
  std::vector<ComponentCost> costs;
  costs.push_back({"embedding", {vocabulary, vocabulary}, 0.0});
  if (model.position_embedding == PositionEmbedding::kLearned) {
    const int64_t positions = config.training.seq_length * model.hidden_size;
    costs.push_back({"positions", {positions, positions}, 0.0});
  }
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (ComponentCost& cost : block_costs(config, layer)) costs.push_back(std::move(cost));
  }
  const int64_t norm = norm_parameters(model, model.hidden_size);
  costs.push_back({"final norm", {norm, norm}, 0.0});
  const int64_t own = model.tie_word_embeddings ? 0 : vocabulary;
  const auto flops = 2.0 * static_cast<double>(vocabulary * predictions_per_token(config));
  costs.push_back({"output projection", {own, own}, flops});
  return costs;
}

ParameterCount count_parameters(const Config& config) {
  ParameterCount sum;
  for (const ComponentCost& cost : component_costs(config)) {
    sum.total += cost.parameters.total;
    sum.active += cost.parameters.active;
  }
  return sum;
}

int64_t count_expert_parameters(const Config& config) {
  return config.moe ? num_moe_layers(config) * expert_parameters(config) : 0;
}

double training_flops_per_token(const Config& config) {
  double forward = 0;
  for (const ComponentCost& cost : component_costs(config)) forward += cost.forward_flops;
  return 3 * forward;
}

double recomputed_flops_per_token(const Config& config) {
  // On the CPU the first map runs again; elsewhere, where the reference is used, the whole feed-forward.
  const double first_map = is_gated(config.model.activation) ? 2.0 / 3 : 1.0 / 2;
  const double share = config.training.device == DeviceKind::kCuda ? 1 : first_map;
  double flops = 0;
  for (int64_t layer = 0; layer < config.model.num_layers; ++layer) {
    for (const ComponentCost& cost : block_costs(config, layer)) {
      switch (config.training.recompute) {
        case Recompute::kNone:
          break;
        case Recompute::kSelective:
          if (is_feed_forward(cost)) flops += share * cost.forward_flops;
          break;
        case Recompute::kFull:
          flops += cost.forward_flops;
          break;
      }
    }
  }
  return flops;
}

double depth_flops_saved_per_token(const Config& config) {
  if (!config.mixture_of_depths) return 0;
  Config whole = config;
  whole.mixture_of_depths.reset();
  return training_flops_per_token(whole) - training_flops_per_token(config);
}

WeightBytes weight_bytes(const Config& config) {
  const auto parameters = static_cast<double>(count_parameters(config).total);
  return {.fp32 = 4 * parameters, .bf16 = 2 * parameters, .int8 = parameters, .int4 = parameters / 2};
}

}  // namespace switchyard
