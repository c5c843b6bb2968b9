#include "config/resolve.h"

#include <algorithm>

namespace switchyard {
namespace {

// 8/3 of the hidden size gives SwiGLU's three matrices the parameters of the usual two of width 4 (Shazeer 2020,
// "GLU Variants Improve Transformer"); multiples of 64 keep matrix products aligned.
int64_t default_intermediate_size(int64_t hidden_size) {
  const int64_t width = (8 * hidden_size + 2) / 3;
  return (width + 63) / 64 * 64;
}

}  // namespace

void resolve(Config& config) {
  ModelConfig& model = config.model;
  model.num_key_value_heads.follow(model.num_attention_heads);
  const auto& latent = model.latent_attention;
  model.head_dim.follow(latent ? latent->qk_nope_head_dim + latent->qk_rope_head_dim
                               : model.hidden_size / model.num_attention_heads);
  model.intermediate_size.follow(default_intermediate_size(model.hidden_size));
  if (model.latent_attention) {
    model.latent_attention->v_head_dim.follow(model.latent_attention->qk_nope_head_dim);
  }
  config.training.global_batch_size.follow(config.training.micro_batch_size);
  if (config.moe) {
    config.moe->intermediate_size.follow(*model.intermediate_size);
    RouterConfig& router = config.moe->router;
    // Gates of noisy top-k start at zero, so that all noise is equal and the load is (Shazeer 2017, appendix A).
    // Slots of Soft MoE are brought to length 1: small ones would only turn faster.
    const double init_scale = router.type == RouterType::kSoftMoe ? 1.0 : 0.1;
    router.init_scale.follow(router.type == RouterType::kNoisyTopK ? 0.0 : init_scale);
    if (router.type == RouterType::kThreshold) router.max_experts.follow(config.moe->num_experts);
    if (router.type == RouterType::kSoftMoe) {
      const int64_t choices = config.moe->top_k * config.training.seq_length;
      router.slots_per_expert.follow((choices + config.moe->num_experts - 1) / config.moe->num_experts);
    }
  }
}

bool is_listed(const std::vector<int64_t>& layers, int64_t layer) {
  if (layers.size() == 1) {
    return layers[0] > 0 && (layer + 1) % layers[0] == 0;
  }
  return static_cast<size_t>(layer) < layers.size() && layers[static_cast<size_t>(layer)] != 0;
}

bool is_moe_layer(const Config& config, int64_t layer) {
  return config.moe && layer >= config.moe->first_k_dense && layer < config.model.num_layers &&
         is_listed(config.moe->layer_freq, layer);
}

int64_t num_moe_layers(const Config& config) {
  int64_t count = 0;
  for (int64_t layer = 0; layer < config.model.num_layers; ++layer) {
    count += is_moe_layer(config, layer) ? 1 : 0;
  }
  return count;
}

bool is_depth_layer(const Config& config, int64_t layer) {
  return config.mixture_of_depths && layer < config.model.num_layers &&
         is_listed(config.mixture_of_depths->layer_freq, layer);
}

const char* precision_name(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return "fp32";
    case Precision::kBf16:
      return "bf16";
    case Precision::kFp64:
      return "fp64";
  }
  return "";
}

int64_t element_bytes(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return 4;
    case Precision::kBf16:
      return 2;
    case Precision::kFp64:
      return 8;
  }
  return 0;
}

int64_t weight_bytes(Precision precision) { return std::max<int64_t>(4, element_bytes(precision)); }

bool is_gated(Activation activation) { return activation == Activation::kSwiGlu || activation == Activation::kGeGlu; }

int64_t active_experts(const MoeConfig& moe) {
  return moe.router.type == RouterType::kSoftMixture ? moe.num_experts : moe.top_k;
}

}  // namespace switchyard
