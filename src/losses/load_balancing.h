// Auxiliary losses of routers: pure functions of tensors.
//
// One definition for every scheme: per layer, perfect balance is 1.0; a run sums over its MoE layers. The other
// systems' conventions differ by factors of K and of the number of layers; docs/losses.md has the table. Legend: B
// sequences, T tokens, E experts, K experts per token.
#pragma once

#include "ops/torch.h"

namespace switchyard {

// E * sum_i f_i P_i (Fedus et al. 2022, eqs 4-6, with f over the T * K assignments). load [E]: f, the share of the
// assignments that went to each expert (a constant to the gradient); probabilities [T, E]; P_i their mean over T.
// 1.0 when balanced; at most E / K, when every token makes the same choices with certainty. Returns a scalar.
// Collectives: none.
torch::Tensor load_balancing_loss(const torch::Tensor& probabilities, const torch::Tensor& load);

// The mean over B sequences of the same loss taken within each (DeepSeek-V3, eqs 17-20). load [B, E], each row a share
// within its sequence; probabilities [T, E] with T = B * S.
torch::Tensor sequence_load_balancing_loss(const torch::Tensor& probabilities, const torch::Tensor& load);

// mean_t (logsumexp_j logits[t, j])^2 (Zoph et al. 2022, ST-MoE, eq. 5). logits [T, E]. Returns a scalar.
torch::Tensor router_z_loss(const torch::Tensor& logits);

// 1 + CV^2 of values [E], that is E sum v^2 / (sum v)^2: 1.0 when all are equal, E when one has everything. Of the
// summed weights it is the importance loss, of the smooth counts the load loss (Shazeer et al. 2017, eqs 7 and 11,
// which leave out the 1). Returns a scalar.
torch::Tensor variation_loss(const torch::Tensor& values);

// 1 + (mean / target - 1)^2 with the mean of smooth_experts [T]. Returns a scalar.
torch::Tensor budget_loss(const torch::Tensor& smooth_experts, double target);

// counts [.., E] -> shares along the last dimension, float32 or `type`. All-zero rows give zeros.
torch::Tensor load_from_counts(const torch::Tensor& counts, torch::ScalarType type);

}  // namespace switchyard
