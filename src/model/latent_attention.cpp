#include "model/latent_attention.h"

#include "ops/matrix_product.h"

namespace switchyard {

using torch::Tensor;

LatentAttention::LatentAttention(const ModelConfig& config, int64_t layer)
    : widths_(config.latent_attention.value()),
      num_heads_(config.num_attention_heads),
      limits_(attention_limits(config, layer)) {
  // A projection and, where the model has them, its bias.
  const auto make = [&](const std::string& name, int64_t out, int64_t in, Tensor& weight, Tensor& bias) {
    weight = register_parameter(name + "_proj", torch::empty({out, in}));
    if (config.bias) bias = register_parameter(name + "_bias", torch::empty({out}));
  };
  const int64_t hidden = config.hidden_size;
  const int64_t query = num_heads_ * (widths_.qk_nope_head_dim + widths_.qk_rope_head_dim);
  const int64_t rank = widths_.kv_lora_rank;
  const int64_t value = widths_.v_head_dim.value();
  if (widths_.q_lora_rank) {
    make("q_a", *widths_.q_lora_rank, hidden, q_a_proj_, q_a_bias_);
    q_a_norm_ = Norm(*this, "q_a_norm", *widths_.q_lora_rank, config);
    make("q_b", query, *widths_.q_lora_rank, q_b_proj_, q_b_bias_);
  } else {
    make("q", query, hidden, q_b_proj_, q_b_bias_);
  }
  make("kv_a", rank + widths_.qk_rope_head_dim, hidden, kv_a_proj_, kv_a_bias_);
  kv_a_norm_ = Norm(*this, "kv_a_norm", rank, config);
  make("kv_b", num_heads_ * (widths_.qk_nope_head_dim + value), rank, kv_b_proj_, kv_b_bias_);
  make("o", hidden, num_heads_ * value, o_proj_, o_bias_);
}

// [B, S, D] -> [B, H, S, N + O].
Tensor LatentAttention::queries(const Tensor& x, const RotaryTable& rotary) const {
  const Tensor latent = q_a_proj_.defined() ? q_a_norm_(linear_map(x, q_a_proj_, q_a_bias_)) : x;
  const auto parts = linear_map(latent, q_b_proj_, q_b_bias_)
                         .unflatten(-1, {num_heads_, -1})
                         .transpose(1, 2)
                         .split_with_sizes({widths_.qk_nope_head_dim, widths_.qk_rope_head_dim}, -1);
  return torch::cat({parts[0], apply_rotary(parts[1], rotary)}, -1);
}

// What keys and values are made of: [B, S, D] -> [B, S, R + O].
Tensor LatentAttention::latents(const Tensor& x, const RotaryTable& rotary) const {
  const auto parts =
      linear_map(x, kv_a_proj_, kv_a_bias_).split_with_sizes({widths_.kv_lora_rank, widths_.qk_rope_head_dim}, -1);
  return torch::cat({kv_a_norm_(parts[0]), apply_rotary(parts[1], rotary)}, -1);
}

Tensor LatentAttention::forward(const Tensor& x, const RotaryTable& rotary, LayerCache* cache) {
  Tensor latent = latents(x, rotary);  // [B, P, R + O]
  if (cache != nullptr) {
    latent = extend(cache->key, cache->length, latent);
    cache->length += x.size(1);
  }
  const auto parts = latent.split_with_sizes({widths_.kv_lora_rank, widths_.qk_rope_head_dim}, -1);
  const auto heads = linear_map(parts[0], kv_b_proj_, kv_b_bias_)
                         .unflatten(-1, {num_heads_, -1})
                         .transpose(1, 2)
                         .split_with_sizes({widths_.qk_nope_head_dim, widths_.v_head_dim.value()}, -1);
  const Tensor key = torch::cat({heads[0], parts[1].unsqueeze(1).expand({-1, num_heads_, -1, -1})}, -1);
  return linear_map(causal_attention(queries(x, rotary), key, heads[1], limits_), o_proj_, o_bias_);
}

LayerCache LatentAttention::make_cache(int64_t batch, int64_t capacity, const torch::TensorOptions& options) const {
  return {torch::zeros({batch, capacity, widths_.kv_lora_rank + widths_.qk_rope_head_dim}, options), Tensor()};
}

}  // namespace switchyard
