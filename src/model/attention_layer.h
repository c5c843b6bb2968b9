// Self-attention of one block: the interface, and multi-head or grouped-query attention. Latent attention is in
// latent_attention.h.
// Legend: B batch, S sequence, D hidden, H query heads, G key/value heads, hd head_dim.
#pragma once

#include <memory>

#include "config/config.h"
#include "ops/attention.h"
#include "ops/torch.h"

namespace switchyard {

// What one layer keeps of the positions that it has seen, in memory for `capacity` positions.
struct LayerCache {
  torch::Tensor key;    // [B, G, capacity, hd]; latent attention: [B, capacity, kv_lora_rank + qk_rope_head_dim]
  torch::Tensor value;  // [B, G, capacity, hd]; latent attention: undefined
  int64_t length = 0;   // positions held
};

class Attention : public torch::nn::Module {
 public:
  // x [B, S, D] -> [B, S, D]. `rotary` has the angles of x's positions, undefined ones in a model without rotary
  // embedding. With a cache, x follows what it holds: it is added to the cache and attention goes over all of it.
  // Collectives: none.
  virtual torch::Tensor forward(const torch::Tensor& x, const RotaryTable& rotary, LayerCache* cache) = 0;

  // An empty cache; `options` have the type and device of activations.
  virtual LayerCache make_cache(int64_t batch, int64_t capacity, const torch::TensorOptions& options) const = 0;
};

// The attention that config describes, for block `layer` of the model. config must be resolved.
std::shared_ptr<Attention> make_attention(const ModelConfig& config, int64_t layer);

// The width that the rotary embedding turns: of a head, or of latent attention's part of it.
int64_t rotary_width(const ModelConfig& config);

// The window and cap of block `layer`.
AttentionLimits attention_limits(const ModelConfig& config, int64_t layer);

// Writes `rows` [..., S, n] behind the `length` rows that `memory` [..., capacity, n] holds; returns all that it then
// holds, [..., length + S, n].
torch::Tensor extend(torch::Tensor& memory, int64_t length, const torch::Tensor& rows);

class HeadAttention : public Attention {
 public:
  HeadAttention(const ModelConfig& config, int64_t layer);

  torch::Tensor forward(const torch::Tensor& x, const RotaryTable& rotary, LayerCache* cache) override;
  LayerCache make_cache(int64_t batch, int64_t capacity, const torch::TensorOptions& options) const override;

 private:
  torch::Tensor normalised(const torch::Tensor& qkv) const;

  int64_t num_heads_;
  int64_t num_key_value_heads_;
  int64_t head_dim_;
  double norm_eps_;
  QkNorm qk_norm_;
  AttentionLimits limits_;
  torch::Tensor qkv_proj_;  // [(H + 2G) hd, D]: queries, keys, values
  torch::Tensor o_proj_;    // [D, H hd]
  torch::Tensor qkv_bias_;  // [(H + 2G) hd], undefined without model.bias
  torch::Tensor o_bias_;    // [D]
  torch::Tensor q_norm_;    // [hd], or [H hd] with qk_norm full; undefined with none
  torch::Tensor k_norm_;    // [hd], or [G hd]
};

}  // namespace switchyard
