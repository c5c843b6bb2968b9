// Root-mean-square normalisation (Zhang and Sennrich 2019, eq. 4).
#pragma once

#include "ops/torch.h"

namespace switchyard {

// y = x / sqrt(mean(x^2) + eps) * weight over the last dimension. x [..., D] float32, bfloat16 or float64; weight [D]
// (kept and applied in float32 when x is bfloat16). Returns x's shape and type. Differentiable. Collectives: none.
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps);

// The same in plain ATen operations, on any device.
torch::Tensor rms_norm_reference(const torch::Tensor& x, const torch::Tensor& weight, double eps);

}  // namespace switchyard
