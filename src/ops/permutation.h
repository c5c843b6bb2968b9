// Moving tokens to their experts and back, by gathers only: no atomics, so sums have one order and one result.
// Legend: T tokens, D hidden, E experts, K experts per token, N = T * K rows.
#pragma once

#include "ops/torch.h"

namespace switchyard {

// Where every (token, choice) goes when rows are sorted by expert. Rows of one expert keep the order of the tokens.
// On the CPU an expert with many rows gets a few more, of zeros, up to a multiple of a small power of two: the matrix
// library compiles code for every new shape, and would otherwise meet new ones in every step.
struct ExpertOrder {
  torch::Tensor offsets;        // [E] int64; one past the last row of each expert
  torch::Tensor row_of_choice;  // [T, K] int64; -1 where the choice is dropped
  torch::Tensor choice_of_row;  // [num_rows] int64, t * K + k; -1 for a row of zeros
  int64_t num_rows = 0;         // rows that experts see; on CUDA N: rows of zeros, last, for what was dropped
};

// What the rows of one expert are rounded up to on the CPU: at most an eighth of their average, at most 64.
int64_t row_alignment(int64_t num_choices, int64_t num_experts);

enum class RowCount { kAligned, kExact };  // with or without those rows of zeros

// expert_ids [T, K] int64 in [0, E). kept [T, K] bool, or undefined: everything is kept. The CPU throws c10::IndexError
// for an id that is no expert; on CUDA, where nobody waits for the answer, it is a device assertion. `count` is for the
// CPU. Collectives: none.
ExpertOrder order_by_expert(const torch::Tensor& expert_ids, int64_t num_experts, const torch::Tensor& kept = {},
                            RowCount count = RowCount::kAligned);

// rows[n] = x[choice_of_row[n] / K], zero where that is -1. x [T, D] -> [num_rows, D]. Differentiable: a token's
// gradient is the sum over its kept rows, in the order of its choices.
torch::Tensor permute_tokens(const torch::Tensor& x, const ExpertOrder& order);

// y[t] = sum over kept k of weights[t, k] * rows[row_of_choice[t, k]]. rows [num_rows, D]; weights [T, K] float32
// (float64 with float64 rows) -> [T, D] of rows' type. Differentiable in rows and weights.
torch::Tensor combine_tokens(const torch::Tensor& rows, const torch::Tensor& weights, const ExpertOrder& order);

// The same in plain ATen operations, on any device.
torch::Tensor permute_tokens_reference(const torch::Tensor& x, const ExpertOrder& order);
torch::Tensor combine_tokens_reference(const torch::Tensor& rows, const torch::Tensor& weights,
                                       const ExpertOrder& order);

}  // namespace switchyard
