#include "model/accounting_block.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

// Adds up one component that every token passes through once.
class Sum {
 public:
  Sum(std::string name, bool bias) : cost_{std::move(name), {}, 0.0}, bias_(bias) {}

  Sum& map(int64_t inputs, int64_t outputs) {
    cost_.forward_flops += 2.0 * as_double(inputs) * as_double(outputs);
    return vector(inputs * outputs + (bias_ ? outputs : 0));
  }
  // Parameters that take part in no matrix product.
  Sum& vector(int64_t parameters) {
    cost_.parameters.total += parameters;
    cost_.parameters.active += parameters;
    return *this;
  }
  Sum& flops(double forward) {
    cost_.forward_flops += forward;
    return *this;
  }
  const ComponentCost& cost() const { return cost_; }

 private:
  ComponentCost cost_;
  bool bias_;
};

// The norms of one half of a block: before it and, with post_norm, after it.
int64_t norms_of_half(const ModelConfig& model) {
  return (model.post_norm ? 2 : 1) * norm_parameters(model, model.hidden_size);
}

// Positions that a query sees on average. A causal square counts as half of it, S / 2, and a window takes what is
// farther away from that: as wide as the sequence, it takes nothing.
double visible_positions(const Config& config, int64_t layer) {
  const ModelConfig& model = config.model;
  const double length = passing_share(config, layer) * as_double(config.training.seq_length);
  if (!model.sliding_window || !is_listed(model.sliding_window_layers, layer)) return length / 2;
  const double window = std::min(as_double(*model.sliding_window), length);
  return window - window * window / (2 * length);
}

// Queries through q_lora_rank or straight from the input; keys and values through the latent, with one rotary part that
// all heads share (DeepSeek-V2, section 2.1). Returns the joint width of a query and a value head.
int64_t add_latent_maps(const ModelConfig& model, Sum& sum) {
  const LatentAttentionConfig& latent = *model.latent_attention;
  const int64_t heads = model.num_attention_heads;
  const int64_t query = latent.qk_nope_head_dim + latent.qk_rope_head_dim;
  const int64_t value = *latent.v_head_dim;
  if (latent.q_lora_rank) {
    sum.map(model.hidden_size, *latent.q_lora_rank).vector(norm_parameters(model, *latent.q_lora_rank));
    sum.map(*latent.q_lora_rank, heads * query);
  } else {
    sum.map(model.hidden_size, heads * query);
  }
  sum.map(model.hidden_size, latent.kv_lora_rank + latent.qk_rope_head_dim);
  sum.vector(norm_parameters(model, latent.kv_lora_rank));
  sum.map(latent.kv_lora_rank, heads * (latent.qk_nope_head_dim + value));
  sum.map(heads * value, model.hidden_size);
  return query + value;
}

int64_t add_grouped_query_maps(const ModelConfig& model, Sum& sum) {
  const int64_t queries = model.num_attention_heads * *model.head_dim;
  const int64_t keys = *model.num_key_value_heads * *model.head_dim;
  sum.map(model.hidden_size, queries + 2 * keys).map(queries, model.hidden_size);
  if (model.qk_norm == QkNorm::kHead) sum.vector(2 * *model.head_dim);
  if (model.qk_norm == QkNorm::kFull) sum.vector(queries + keys);
  return 2 * *model.head_dim;
}

ComponentCost attention_cost(const Config& config, int64_t index, const std::string& prefix) {
  const ModelConfig& model = config.model;
  Sum sum(prefix + "attention", model.bias);
  sum.vector(norms_of_half(model));
  const int64_t head = model.latent_attention ? add_latent_maps(model, sum) : add_grouped_query_maps(model, sum);
  // Scores and mixing.
  sum.flops(2.0 * as_double(model.num_attention_heads * head) * visible_positions(config, index));
  return sum.cost();
}

Sum feed_forward(const ModelConfig& model, std::string name, int64_t width) {
  Sum sum(std::move(name), model.bias);
  return sum.map(model.hidden_size, is_gated(model.activation) ? 2 * width : width).map(width, model.hidden_size);
}

// Matrices of the router besides the one that scores experts.
int64_t further_router_rows(const MoeConfig& moe) {
  switch (moe.router.type) {
    case RouterType::kNoisyTopK:
      return moe.num_experts;  // the noise's
    case RouterType::kHierarchical:
      return moe.router.num_groups;  // the groups'
    case RouterType::kTopK:
    case RouterType::kSwitch:
    case RouterType::kSoftMixture:
    case RouterType::kExpertChoice:
    case RouterType::kThreshold:
    case RouterType::kHash:
    case RouterType::kRandom:
    case RouterType::kSinkhorn:
    case RouterType::kQuantile:
    case RouterType::kSoftMoe:
      return 0;
  }
  return 0;
}

ComponentCost router_cost(const Config& config, const std::string& prefix) {
  const ModelConfig& model = config.model;
  const int64_t rows = router_rows(config);
  Sum sum(prefix + "router", /*bias=*/false);
  sum.vector(norms_of_half(model)).map(model.hidden_size, rows + further_router_rows(*config.moe));
  if (config.moe->router.type == RouterType::kSoftMoe) {
    sum.vector(1);                                                        // the scale of the normalised logits
    sum.flops(2 * 2.0 * as_double(model.hidden_size) * as_double(rows));  // tokens to slots and back
  }
  return sum.cost();
}

// Feed-forwards of experts that are computed for one token: slots, not choices, say how many in soft_moe.
double expert_passes(const Config& config) {
  const MoeConfig& moe = *config.moe;
  if (moe.router.type != RouterType::kSoftMoe) return as_double(active_experts(moe));
  return as_double(router_rows(config)) / as_double(config.training.seq_length);
}

ComponentCost experts_cost(const Config& config, const std::string& prefix) {
  const MoeConfig& moe = *config.moe;
  ComponentCost cost = feed_forward(config.model, prefix + "experts", *moe.intermediate_size).cost();
  cost.parameters.active *= active_experts(moe);
  cost.parameters.total *= moe.num_experts;
  cost.forward_flops *= expert_passes(config);
  return cost;
}

void add_feed_forward(const Config& config, int64_t index, const std::string& prefix,
                      std::vector<ComponentCost>& costs) {
  const ModelConfig& model = config.model;
  if (!is_moe_layer(config, index)) {
    costs.push_back(
        feed_forward(model, prefix + "feed-forward", *model.intermediate_size).vector(norms_of_half(model)).cost());
    return;
  }
  const MoeConfig& moe = *config.moe;
  costs.push_back(router_cost(config, prefix));
  costs.push_back(experts_cost(config, prefix));
  if (moe.num_shared_experts > 0) {
    // One feed-forward of their joint width, so there is one bias behind it.
    costs.push_back(
        feed_forward(model, prefix + "shared experts", moe.num_shared_experts * *moe.intermediate_size).cost());
  }
  if (moe.dense_residual) {
    costs.push_back(feed_forward(model, prefix + "dense residual", *model.intermediate_size).cost());
  }
}

}  // namespace

int64_t norm_parameters(const ModelConfig& model, int64_t width) {
  return model.normalization == Normalization::kLayerNorm ? 2 * width : width;
}

int64_t predictions_per_token(const Config& config) {
  return config.moe && config.moe->router.error == ExpertError::kCompetitive ? config.moe->num_experts : 1;
}

int64_t expert_parameters(const Config& config) { return experts_cost(config, "").parameters.total; }

double passing_share(const Config& config, int64_t layer) {
  return is_depth_layer(config, layer) ? config.mixture_of_depths->capacity_factor : 1.0;
}

int64_t router_rows(const Config& config) {
  const MoeConfig& moe = *config.moe;
  switch (moe.router.type) {
    case RouterType::kHash:
    case RouterType::kRandom:
      return 0;
    case RouterType::kSoftMoe:
      return moe.num_experts * *moe.router.slots_per_expert;
    case RouterType::kTopK:
      return moe.num_experts + moe.router.null_experts;
    case RouterType::kSwitch:
    case RouterType::kNoisyTopK:
    case RouterType::kHierarchical:
    case RouterType::kSoftMixture:
    case RouterType::kExpertChoice:
    case RouterType::kThreshold:
    case RouterType::kSinkhorn:
    case RouterType::kQuantile:
      break;
  }
  return moe.num_experts;
}

double rows_to_experts(const Config& config, int64_t layer) {
  const MoeConfig& moe = *config.moe;
  if (moe.router.type == RouterType::kSoftMoe) {
    return as_double(config.training.micro_batch_size * router_rows(config));
  }
  double rows = passing_share(config, layer) * as_double(config.training.micro_batch_size) *
                as_double(config.training.seq_length) * as_double(active_experts(moe));
  rows *= as_double(moe.num_experts) / as_double(moe.num_experts + moe.router.null_experts);
  return moe.capacity_factor ? rows * std::min(1.0, *moe.capacity_factor) : rows;
}

std::vector<ComponentCost> block_costs(const Config& config, int64_t layer) {
  const std::string prefix = "layer " + std::to_string(layer) + " ";
  std::vector<ComponentCost> costs = {attention_cost(config, layer, prefix)};
  add_feed_forward(config, layer, prefix, costs);
  if (!is_depth_layer(config, layer)) return costs;
  for (ComponentCost& cost : costs) cost.forward_flops *= passing_share(config, layer);
  // Every token is scored by the router and by the predictor (with a bias) that stands in for it in generation.
  costs.push_back(Sum(prefix + "depth router", /*bias=*/false).map(config.model.hidden_size, 2).vector(1).cost());
  return costs;
}

}  // namespace switchyard
