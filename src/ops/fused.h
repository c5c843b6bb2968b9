// How an operation reaches its fused CPU loop: type dispatch, raw pointers, splitting rows over threads.
#pragma once

#include <ATen/Parallel.h>

#include "ops/kernels/kernels.h"
#include "ops/torch.h"

namespace switchyard {

// Whether kernels take elements of this one's type.
inline bool has_kernel_type(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat32 || x.scalar_type() == torch::kBFloat16 ||
         x.scalar_type() == torch::kFloat64;
}

// Whether tensors of this one's device and type have a fused loop; others take the ATen reference.
inline bool has_fused_kernel(const torch::Tensor& x) { return x.device().is_cpu() && has_kernel_type(x); }

// Calls f(T{}) with the element type: float, double or kernels::Bf16.
template <class F>
void with_type(torch::ScalarType type, F&& f) {
  switch (type) {
    case torch::kFloat32:
      return f(float{});
    case torch::kFloat64:
      return f(double{});
    case torch::kBFloat16:
      return f(kernels::Bf16{});
    default:
      TORCH_CHECK_TYPE(false, "no fused kernel for ", type);
  }
}
// With that of `x`.
template <class F>
void with_element_type(const torch::Tensor& x, F&& f) {
  with_type(x.scalar_type(), std::forward<F>(f));
}

// With float or double, for what is computed in the type of sums.
template <class F>
void with_wide_type(const torch::Tensor& x, F&& f) {
  if (x.scalar_type() == torch::kFloat64) return f(double{});
  TORCH_CHECK_TYPE(x.scalar_type() == torch::kFloat32, "float32 or float64 is needed, not ", x.scalar_type());
  f(float{});
}

template <class T>
const T* input(const torch::Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <class T>
T* output(const torch::Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

// float32 for float32 and bfloat16, float64 for float64.
inline torch::ScalarType accumulate_type(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

// A tensor that may be undefined as an argument of an autograd function: an undefined one is none, an empty optional
// is.
inline std::optional<torch::Tensor> argument(const torch::Tensor& x) {
  return x.defined() ? std::optional<torch::Tensor>(x) : std::nullopt;
}

// Splits [0, rows) over threads so that each piece has about `kElementsPerTask` elements or more.
template <class F>
void parallel_rows(int64_t rows, int64_t elements_per_row, F&& f) {
  constexpr int64_t kElementsPerTask = 16384;
  at::parallel_for(0, rows, std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, elements_per_row)), f);
}

}  // namespace switchyard
