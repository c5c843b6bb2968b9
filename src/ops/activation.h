// What a feed-forward does between its two products; see grouped_mlp() for the formulas.
// Legend: N rows, F width, W is 2F where the activation is gated (the gate first), else F.
#pragma once

#include "config/config.h"
#include "ops/torch.h"

namespace switchyard {

// On the CPU, in the calling thread, on memory of float32, float64 or bfloat16. hidden [N, W] -> y [N, F].
void activation_forward(torch::ScalarType type, Activation activation, const void* hidden, void* y, int64_t rows,
                        int64_t width);
// From the gradient dy [N, F] of the activation to d_hidden [N, W]; y [N, F] gets the activation itself.
void activation_backward(torch::ScalarType type, Activation activation, const void* hidden, const void* dy,
                         void* d_hidden, void* y, int64_t rows, int64_t width);
// The same in plain ATen operations, differentiable, on any device. hidden [..., W] -> [..., F].
torch::Tensor plain_activation(const torch::Tensor& hidden, Activation activation);

}  // namespace switchyard
