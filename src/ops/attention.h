// Causal self-attention around its projections.
// Legend: B batch, S sequence, H query heads, G key/value heads (G divides H), hd head_dim.
#pragma once

#include <optional>

#include "ops/torch.h"

namespace switchyard {

// Angles of the rotary embedding (Su et al. 2021): cos and sin of position * theta^(-2i / hd), each [S, hd / 2], in
// float32 (float64 when `type` is that), for positions first .. first + count - 1. Where sequences have tokens of
// different positions, [B, S, hd / 2].
struct RotaryTable {
  torch::Tensor cos;
  torch::Tensor sin;
};
RotaryTable rotary_table(int64_t first, int64_t count, int64_t head_dim, double theta,
                         const torch::TensorOptions& options);
// The angles of other places: table [S, hd / 2], places [B, C] int64 in [0, S) -> [B, C, hd / 2]. An undefined table
// stays undefined.
RotaryTable rotary_at(const RotaryTable& table, const torch::Tensor& places);

// x [..., S, hd] rotated by the table's angles (of each sequence where x is [B, S, hd] or [B, H, S, hd] and they are
// [B, S, hd / 2]): the two halves of the last dimension form the pairs. Computed in the table's type. Differentiable,
// on any device. Collectives: none.
torch::Tensor apply_rotary(const torch::Tensor& x, const RotaryTable& table);

struct Heads {
  torch::Tensor query;  // [B, H, S, hd]
  torch::Tensor key;    // [B, G, S, hd]
  torch::Tensor value;  // [B, G, S, hd]
};

// Splits the joint projection qkv [B, S, (H + 2G) hd] into heads, and rotates queries and keys (the two halves of a
// head's vector form the pairs, as in transformers). Differentiable. Collectives: none.
Heads split_heads(const torch::Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads, const RotaryTable& table);
Heads split_heads_reference(const torch::Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads,
                            const RotaryTable& table);
// The same without a rotation, for models whose positions are in their inputs.
Heads split_heads(const torch::Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads);
Heads split_heads_reference(const torch::Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads);

struct AttentionLimits {
  std::optional<int64_t> window;  // a query at position i sees i - window + 1 .. i (Beltagy et al. 2020); none: 0 .. i
  std::optional<double> softcap;  // scores s become soft_cap(s, *softcap), see ops/soft_cap.h; none: s
};

// softmax(query key^T / sqrt(hd), causal) value. query [B, H, S, hd], key [B, G, P + S, hd] and value [B, G, P + S,
// vd], where the first P positions are a cache's -> [B, S, H vd]. On the CPU a fused loop over blocks of queries keeps
// nothing of size S * S, and another takes a single query behind a cache where there are no gradients; very long
// sequences, more queries behind a cache, and other devices use ATen's scaled_dot_product_attention, which on CUDA is a
// flash (bfloat16) or memory-efficient kernel, the latter with a window. Under a soft cap, and with a window on the
// CPU, limited_attention() takes the place of both. Differentiable. Collectives: none.
torch::Tensor causal_attention(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                               const AttentionLimits& limits = {});
torch::Tensor causal_attention_reference(const torch::Tensor& query, const torch::Tensor& key,
                                         const torch::Tensor& value, std::optional<int64_t> window = std::nullopt);

}  // namespace switchyard
