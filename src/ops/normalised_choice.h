// The weights of a token's experts: their probabilities, normalised over the chosen ones.
// Legend: T tokens, E experts, K choices of a token.
#pragma once

#include "ops/torch.h"

namespace switchyard {

// w_tk = s_t,ids(t,k) / sum_j s_t,ids(t,j). shares [T, E] in float32 or float64; ids [T, K] int64 in [0, E), distinct
// for each token -> [T, K]. Differentiable in shares. One operation forward and one backward on the CPU, ATen's
// elsewhere. Collectives: none.
torch::Tensor normalised_choice(const torch::Tensor& shares, const torch::Tensor& ids);
torch::Tensor normalised_choice_reference(const torch::Tensor& shares, const torch::Tensor& ids);

}  // namespace switchyard
