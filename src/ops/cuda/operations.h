// The kernels of this folder as operations on tensors, without gradients: ops/permutation.cpp and ops/top_k.cpp have
// these. On CPU tensors each runs its kernel as a loop, slowly, which is how tests look at the kernels.
// Legend: T tokens, D hidden, E experts, K experts per token, N = T * K rows.
#pragma once

#include <array>

#include "ops/permutation.h"
#include "ops/torch.h"

namespace switchyard::cuda {

// As order_by_expert of ops/permutation.h, with rows of dropped choices behind all others: num_rows is N, whatever was
// dropped, and the host never waits. An id that is no expert ends the program with a message (a device assertion).
ExpertOrder order_by_expert(const torch::Tensor& expert_ids, int64_t num_experts, const torch::Tensor& kept = {});

// rows[n] = x[choice_of_row[n] / K], zero where that is -1. x [T, D] of any type -> [N, D].
torch::Tensor gather_rows(const torch::Tensor& x, const torch::Tensor& choice_of_row, int64_t top_k);

// out[t] = sum over k of weights[t, k] * rows[row_of_choice[t, k]], -1 skipped. rows [N, D] float32, bfloat16 or
// float64; weights [T, K] in the accumulating type, or undefined: all one -> [T, D] of rows' type.
torch::Tensor sum_rows(const torch::Tensor& rows, const torch::Tensor& row_of_choice, const torch::Tensor& weights);

// The gradients of sum_rows in rows and weights from dy [T, D].
std::array<torch::Tensor, 2> sum_rows_backward(const torch::Tensor& rows, const torch::Tensor& weights,
                                               const torch::Tensor& choice_of_row, const torch::Tensor& dy);

struct Chosen {
  torch::Tensor ids;            // [T, K] int64
  torch::Tensor probabilities;  // [T, E], undefined unless wanted
  torch::Tensor counts;         // [E] int64 how often each was chosen, undefined unless wanted
};

// The K largest of each row of scores [T, E], float32 or float64, as top_k_indices of ops/top_k.h; with `softmax` also
// the rows' softmax and the counts. E at most 2048.
bool takes_top_k(const torch::Tensor& scores);
Chosen top_k(const torch::Tensor& scores, int64_t top_k, bool softmax);

}  // namespace switchyard::cuda
