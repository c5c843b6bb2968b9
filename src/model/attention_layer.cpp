#include "model/attention_layer.h"

#include "model/latent_attention.h"
#include "ops/matrix_product.h"
#include "ops/rms_norm.h"

namespace switchyard {

using torch::Tensor;

std::shared_ptr<Attention> make_attention(const ModelConfig& config, int64_t layer) {
  if (config.latent_attention) return std::make_shared<LatentAttention>(config, layer);
  return std::make_shared<HeadAttention>(config, layer);
}

int64_t rotary_width(const ModelConfig& config) {
  return config.latent_attention ? config.latent_attention->qk_rope_head_dim : config.head_dim.value();
}

AttentionLimits attention_limits(const ModelConfig& config, int64_t layer) {
  AttentionLimits limits;
  if (is_listed(config.sliding_window_layers, layer)) limits.window = config.sliding_window;
  limits.softcap = config.attention_softcap;
  return limits;
}

Tensor extend(Tensor& memory, int64_t length, const Tensor& rows) {
  memory.narrow(-2, length, rows.size(-2)).copy_(rows);
  return memory.narrow(-2, 0, length + rows.size(-2));
}

HeadAttention::HeadAttention(const ModelConfig& config, int64_t layer)
    : num_heads_(config.num_attention_heads),
      num_key_value_heads_(config.num_key_value_heads.value()),
      head_dim_(config.head_dim.value()),
      norm_eps_(config.norm_eps),
      qk_norm_(config.qk_norm),
      limits_(attention_limits(config, layer)) {
  const int64_t joint = (num_heads_ + 2 * num_key_value_heads_) * head_dim_;
  qkv_proj_ = register_parameter("qkv_proj", torch::empty({joint, config.hidden_size}));
  o_proj_ = register_parameter("o_proj", torch::empty({config.hidden_size, num_heads_ * head_dim_}));
  if (config.bias) {
    qkv_bias_ = register_parameter("qkv_bias", torch::empty({joint}));
    o_bias_ = register_parameter("o_bias", torch::empty({config.hidden_size}));
  }
  if (qk_norm_ == QkNorm::kNone) return;
  const bool full = qk_norm_ == QkNorm::kFull;
  q_norm_ = register_parameter("q_norm", torch::empty({full ? num_heads_ * head_dim_ : head_dim_}));
  k_norm_ = register_parameter("k_norm", torch::empty({full ? num_key_value_heads_ * head_dim_ : head_dim_}));
}

// RMSNorm of the queries and the keys: over each head's vector (Dehghani et al. 2023; as in Qwen3), or over all heads'
// vectors as one (OLMoE). qkv [B, S, (H + 2G) hd] -> the same.
Tensor HeadAttention::normalised(const Tensor& qkv) const {
  const std::vector<int64_t> heads = {num_heads_, num_key_value_heads_, num_key_value_heads_};
  switch (qk_norm_) {
    case QkNorm::kNone:
      return qkv;
    case QkNorm::kHead: {
      const auto parts = qkv.unflatten(-1, {-1, head_dim_}).split_with_sizes(heads, 2);
      return torch::cat({rms_norm(parts[0], q_norm_, norm_eps_), rms_norm(parts[1], k_norm_, norm_eps_), parts[2]}, 2)
          .flatten(2);
    }
    case QkNorm::kFull: {
      const auto parts = qkv.split_with_sizes({heads[0] * head_dim_, heads[1] * head_dim_, heads[2] * head_dim_}, 2);
      return torch::cat({rms_norm(parts[0], q_norm_, norm_eps_), rms_norm(parts[1], k_norm_, norm_eps_), parts[2]}, 2);
    }
  }
  TORCH_CHECK_VALUE(false, "unknown qk_norm ", static_cast<int>(qk_norm_));
}

Tensor HeadAttention::forward(const Tensor& x, const RotaryTable& rotary, LayerCache* cache) {
  const Tensor qkv = normalised(linear_map(x, qkv_proj_, qkv_bias_));
  Heads heads = rotary.cos.defined() ? split_heads(qkv, num_heads_, num_key_value_heads_, rotary)
                                     : split_heads(qkv, num_heads_, num_key_value_heads_);
  if (cache != nullptr) {
    heads.key = extend(cache->key, cache->length, heads.key);
    heads.value = extend(cache->value, cache->length, heads.value);
    cache->length += x.size(1);
  }
  return linear_map(causal_attention(heads.query, heads.key, heads.value, limits_), o_proj_, o_bias_);
}

LayerCache HeadAttention::make_cache(int64_t batch, int64_t capacity, const torch::TensorOptions& options) const {
  const auto make = [&] { return torch::zeros({batch, num_key_value_heads_, capacity, head_dim_}, options); };
  return {make(), make()};
}

}  // namespace switchyard
