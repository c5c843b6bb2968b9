// Choosing the k largest of few.
#pragma once

#include "ops/torch.h"

namespace switchyard {

// Indices [T, K] (int64) of the k largest entries of each row of scores [T, E], largest first; ties go to the lower
// index, and NaN counts as smallest (beyond 16 of them on the CPU and 2048 entries on CUDA, where ATen sorts, as
// largest). Not differentiable (gather the scores for that). Throws c10::ValueError unless 1 <= K <= E. Collectives:
// none.
torch::Tensor top_k_indices(const torch::Tensor& scores, int64_t top_k);

struct SoftmaxTopK {
  torch::Tensor probabilities;  // [T, E] softmax of the logits, differentiable
  torch::Tensor ids;            // [T, K] top_k_indices of the logits
  torch::Tensor counts;         // [E] int64 how often each column was chosen; undefined where it didn't come for free
};

// Both of logits [T, E], which CUDA does in one pass.
SoftmaxTopK softmax_top_k(const torch::Tensor& logits, int64_t top_k);

}  // namespace switchyard
