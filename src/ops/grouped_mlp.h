// The feed-forward of many experts over rows sorted by expert, as one differentiable operation.
// Legend: N rows, D hidden, F expert width, E experts.
#pragma once

#include "config/config.h"
#include "ops/torch.h"

namespace switchyard {

// Weights [out, in] of every expert, one behind the other. A gated activation has its gate and up projection joined,
// the gate first: W below is 2F then, else F.
struct MlpWeights {
  torch::Tensor up;           // [E, W, D]
  torch::Tensor down;         // [E, D, F]
  torch::Tensor up_bias{};    // [E, W], undefined: none
  torch::Tensor down_bias{};  // [E, D], undefined: none
};

// For every expert e and its rows x_e = x[offsets[e-1] : offsets[e]], with h = x_e up_e^T + up_bias_e:
//   y_e = a(h) down_e^T + down_bias_e
//   swiglu  a(h) = silu(h_gate) * h_up    (Shazeer 2020)
//   geglu   a(h) = gelu(h_gate) * h_up    (Shazeer 2020)
//   gelu    a(h) = gelu(h)                (Hendrycks and Gimpel 2016)
//   relu    a(h) = max(h, 0)
// where gelu is the tanh form, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as in GPT-2 and Grok-1.
// x [N, D]; offsets [E] int64 (see ExpertOrder); x and the weights of one floating type. Rows beyond the last offset
// come out as zero. Experts without rows cost nothing and get zero gradients. On the CPU the backward recomputes the
// activation instead of keeping it, and h as well with Inner::kRecomputed: the same bits. On CUDA in bfloat16 with D, W
// and F multiples of 8 it is grouped_mlp_on_device, else a loop over experts, for which the host reads the offsets.
// Collectives: none.
enum class Inner { kKept, kRecomputed };
torch::Tensor grouped_mlp(const torch::Tensor& x, const torch::Tensor& offsets, const MlpWeights& weights,
                          Activation activation, Inner inner = Inner::kKept);
// The same in plain ATen operations, on any device.
torch::Tensor grouped_mlp_reference(const torch::Tensor& x, const torch::Tensor& offsets, const MlpWeights& weights,
                                    Activation activation);

// The same by grouped matrix products (at::_grouped_mm, whose conditions on types and widths these are) that read the
// offsets on the device. ATen has such kernels for compute capability 9.0 and 10.x; its CPU and its other GPUs read
// them on the host.
torch::Tensor grouped_mlp_on_device(const torch::Tensor& x, const torch::Tensor& offsets, const MlpWeights& weights,
                                    Activation activation);

// All rows through the only expert of `weights` (E = 1). x [N, D] -> [N, D].
torch::Tensor dense_mlp(const torch::Tensor& x, const MlpWeights& weights, Activation activation,
                        Inner inner = Inner::kKept);
// The same in plain ATen operations, on any device.
torch::Tensor dense_mlp_reference(const torch::Tensor& x, const MlpWeights& weights, Activation activation);

}  // namespace switchyard
