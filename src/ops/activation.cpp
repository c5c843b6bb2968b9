#include "ops/activation.h"

#include "ops/fused.h"

namespace switchyard {

using kernels::Nonlinearity;
using torch::Tensor;

namespace {

Nonlinearity nonlinearity_of(Activation activation) {
  switch (activation) {
    case Activation::kSwiGlu:
      return Nonlinearity::kSilu;
    case Activation::kGeGlu:
    case Activation::kGelu:
      return Nonlinearity::kGelu;
    case Activation::kRelu:
      return Nonlinearity::kRelu;
  }
  TORCH_CHECK_VALUE(false, "unknown activation ", static_cast<int>(activation));
}

}  // namespace

void activation_forward(torch::ScalarType type, Activation activation, const void* hidden, void* y, int64_t rows,
                        int64_t width) {
  with_type(type, [&]<class T>(T) {
    kernels::kernels<T>().activation_forward(nonlinearity_of(activation), is_gated(activation),
                                             static_cast<const T*>(hidden), static_cast<T*>(y), rows, width);
  });
}

void activation_backward(torch::ScalarType type, Activation activation, const void* hidden, const void* dy,
                         void* d_hidden, void* y, int64_t rows, int64_t width) {
  with_type(type, [&]<class T>(T) {
    kernels::kernels<T>().activation_backward(nonlinearity_of(activation), is_gated(activation),
                                              static_cast<const T*>(hidden), static_cast<const T*>(dy),
                                              static_cast<T*>(d_hidden), static_cast<T*>(y), rows, width);
  });
}

Tensor plain_activation(const Tensor& hidden, Activation activation) {
  const auto of = [&](const Tensor& x) {
    switch (nonlinearity_of(activation)) {
      case Nonlinearity::kSilu:
        return torch::silu(x);
      case Nonlinearity::kGelu:
        return at::gelu(x, "tanh");
      case Nonlinearity::kRelu:
        return torch::relu(x);
    }
    return Tensor();
  };
  if (!is_gated(activation)) return of(hidden);
  const auto halves = hidden.chunk(2, -1);
  return of(halves[0]) * halves[1];
}

}  // namespace switchyard
