// Cross-entropy of a mixture of several predictions of the same tokens.
// Legend: E predictions, T tokens, D hidden, V vocabulary.
#pragma once

#include <optional>

#include "ops/torch.h"

namespace switchyard {

// Expert i predicts P_i = softmax(z_i) with z_i = hidden[i] weight^T, or soft_cap(that, *softcap), and the mixture is
// P = sum_i p_i P_i with p = softmax(gate): the competitive error of Jacobs, Jordan, Nowlan and Hinton 1991 (eq. 1.3)
// with the likelihood of a token in place of that of a vector. Mean over the T' positions with targets[t] >= 0 of
// -log P[t, targets[t]], in nats. With the posterior h_i = p_i P_i(target) / P(target), the gradient of a token's loss
// is p_i - h_i for gate[i], and h_i times that of expert i's own cross-entropy for hidden[i]: an expert learns what it
// predicts better than the others. hidden [E, T, D] float32, bfloat16 or float64; gate [T, E]; weight [V, D] (cast to
// hidden's type for the product); targets [T] int64, negative: ignored (all of them: the loss is 0). Returns a scalar,
// float32 (float64 for float64). Keeps E sets of [T, V] for the backward. Collectives: none.
torch::Tensor mixture_cross_entropy(const torch::Tensor& hidden, const torch::Tensor& gate, const torch::Tensor& weight,
                                    const torch::Tensor& targets, std::optional<double> softcap = std::nullopt);

// log P: [T, V], float32 (float64 for float64).
torch::Tensor mixture_log_probabilities(const torch::Tensor& hidden, const torch::Tensor& gate,
                                        const torch::Tensor& weight, std::optional<double> softcap = std::nullopt);

}  // namespace switchyard
