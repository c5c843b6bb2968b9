// Matrix products, by whichever engine is fast for them, and the linear map on them.
#pragma once

#include <torch/torch.h>

namespace switchyard {

// out = a b, without gradients. a [M, K], b [K, N], out [M, N], or all three with the same leading batch dimension; one
// type and device. Rows or columns of a and b are contiguous, out is contiguous. On the CPU, float32 products of some
// size go to oneDNN: the BLAS that ATen takes for them (MKL) has no AVX-512 code for processors of other makers, and is
// half as fast there. Up to four rows times the transpose of weights, as in generation, take a loop of our own.
// Everything else is ATen's own choice.
void matrix_product_out(torch::Tensor& out, const torch::Tensor& a, const torch::Tensor& b);
// The same into a new tensor.
torch::Tensor matrix_product(const torch::Tensor& a, const torch::Tensor& b);

// x weight^T + bias in x's type. x [..., in]; weight [out, in] and bias [out], or undefined (none), of any floating
// type -> [..., out]. Differentiable in all three.
torch::Tensor linear_map(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias = {});

}  // namespace switchyard
