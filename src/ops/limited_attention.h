// Attention whose scores have a soft cap, or whose queries see a window: in blocks of queries, on any device.
#pragma once

#include "ops/attention.h"

namespace switchyard {

// softmax(score(query key^T / sqrt(hd)), seen) value as causal_attention() has it, with the softmax in float32
// (float64). `window` at most P + S. The largest tensor is the scores of one block, [B, H, block, seen positions]; the
// backward pass computes them again from query, key and value, which alone are kept. Products go over the positions
// that a block can see. Differentiable. Collectives: none.
torch::Tensor limited_attention(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                                int64_t window, std::optional<double> softcap);

// [queries, positions] bool: whether the query at position first_query + i sees position first_position + j.
torch::Tensor seen_positions(int64_t first_query, int64_t queries, int64_t first_position, int64_t positions,
                             int64_t window, torch::Device device);

// 1 / sqrt(hd).
double attention_scale(const torch::Tensor& query);

}  // namespace switchyard
