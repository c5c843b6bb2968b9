// Keeping scores below a bound without cutting them off.
#pragma once

#include "ops/torch.h"

namespace switchyard {

// c tanh(x / c): x itself near zero, never beyond +-c (Bello et al. 2017, section 4.1, as "logit clipping"; Grok-1 and
// Gemma 2 have it on attention scores, Gemma 2 on output logits too). Any shape and floating type. Differentiable.
// Collectives: none.
inline torch::Tensor soft_cap(const torch::Tensor& x, double cap) { return torch::tanh(x / cap) * cap; }

}  // namespace switchyard
