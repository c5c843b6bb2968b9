// What a feed-forward does between its two products; see grouped_mlp() for the formulas.
// Legend: N rows, F width, W is 2F where the activation is gated (the gate first), else F.
#pragma once

#include <torch/torch.h>

#include "config/config.h"

namespace switchyard {

// Without gradients, on the CPU. hidden [N, W] -> [N, F].
torch::Tensor activation_forward(const torch::Tensor& hidden, Activation activation);
// Without gradients, on the CPU: from the gradient dy [N, F] of the activation to d_hidden [N, W]; `again` [N, F] gets
// the activation itself.
void activation_backward(const torch::Tensor& hidden, const torch::Tensor& dy, Activation activation,
                         torch::Tensor d_hidden, torch::Tensor again);
// The same in plain ATen operations, differentiable, on any device. hidden [..., W] -> [..., F].
torch::Tensor plain_activation(const torch::Tensor& hidden, Activation activation);

}  // namespace switchyard
