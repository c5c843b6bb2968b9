// Matrix products, by whichever engine is fast for them, and the linear map on them.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/torch.h"

namespace switchyard {

// A matrix on the CPU in memory that something else owns; its rows are contiguous, one behind the other.
struct MatrixView {
  void* data;
  int64_t rows;
  int64_t columns;
};
// A contiguous tensor as one, or with `transposed` the transpose of a contiguous one as it lies in memory.
inline MatrixView view_of(const torch::Tensor& x, bool transposed = false) {
  return {x.mutable_data_ptr(), x.size(transposed ? 1 : 0), x.size(transposed ? 0 : 1)};
}

// out = a b (+ bias, a row, where it is not null) in this form (kernels.h) on matrices of one type: float32, float64 or
// bfloat16. Takes, on all threads that are free:
// - up to four rows times the transpose of weights, as in generation: a loop that waits for the weights only;
// - with AVX-512, and in bfloat16 on every processor without a matrix unit for it (AMX), and wherever calling a library
//   costs more than the product: a loop of our own. Every element of out is one sum there, taken in one order, and does
//   not depend on the number of threads or rows;
// - else what ATen takes.
void product(torch::ScalarType type, const MatrixView& out, const MatrixView& a, const MatrixView& b,
             kernels::ProductForm form, const void* bias = nullptr);
// out += a b with out in float32 (float64 for float64), where has_product_loop().
void product_add(torch::ScalarType type, const MatrixView& out, const MatrixView& a, const MatrixView& b,
                 kernels::ProductForm form);
// How many threads so many multiplications are worth: at least one.
int64_t threads_for(int64_t multiplications);
// Whether products of this type, of any size, take the loop of our own.
bool has_product_loop(torch::ScalarType type);
// out = a b, without gradients. a [M, K], b [K, N], out [M, N]; one type and device. a and b are contiguous or the
// transposes of contiguous tensors, out is contiguous. On the CPU as product().
void matrix_product_out(torch::Tensor& out, const torch::Tensor& a, const torch::Tensor& b);
// The same into a new tensor; bias [N] or undefined.
torch::Tensor matrix_product(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& bias = {});

// x weight^T + bias in x's type. x [..., in]; weight [out, in] and bias [out], or undefined (none), of any floating
// type -> [..., out]. Differentiable in all three.
torch::Tensor linear_map(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias = {});

}  // namespace switchyard
