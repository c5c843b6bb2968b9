#include "ops/activation.h"

#include "ops/fused.h"

namespace switchyard {

using torch::Tensor;

namespace {

Tensor swiglu(const Tensor& gate_up) {
  const int64_t width = gate_up.size(1) / 2;
  Tensor y = torch::empty({gate_up.size(0), width}, gate_up.options());
  with_element_type(gate_up, [&]<class T>(T) {
    parallel_rows(y.size(0), 2 * width, [&](int64_t begin, int64_t end) {
      kernels::kernels<T>().swiglu_forward(input<T>(gate_up) + begin * 2 * width, output<T>(y) + begin * width,
                                           end - begin, width);
    });
  });
  return y;
}

void swiglu_backward(const Tensor& gate_up, const Tensor& dy, Tensor& d_gate_up, Tensor& y) {
  const int64_t width = dy.size(1);
  with_element_type(gate_up, [&]<class T>(T) {
    parallel_rows(dy.size(0), 2 * width, [&](int64_t begin, int64_t end) {
      kernels::kernels<T>().swiglu_backward(input<T>(gate_up) + begin * 2 * width, input<T>(dy) + begin * width,
                                            output<T>(d_gate_up) + begin * 2 * width, output<T>(y) + begin * width,
                                            end - begin, width);
    });
  });
}

Tensor tanh_gelu(const Tensor& x) { return at::gelu(x, "tanh"); }

}  // namespace

Tensor activation_forward(const Tensor& hidden, Activation activation) {
  switch (activation) {
    case Activation::kSwiGlu:
      return swiglu(hidden);
    case Activation::kGeGlu: {
      const auto halves = hidden.to(accumulate_type(hidden)).chunk(2, 1);
      return (tanh_gelu(halves[0]) * halves[1]).to(hidden.scalar_type());
    }
    case Activation::kGelu:
      return tanh_gelu(hidden);
    case Activation::kRelu:
      return torch::relu(hidden);
  }
  TORCH_CHECK_VALUE(false, "unknown activation ", static_cast<int>(activation));
}

void activation_backward(const Tensor& hidden, const Tensor& dy, Activation activation, Tensor d_hidden, Tensor again) {
  switch (activation) {
    case Activation::kSwiGlu:
      return swiglu_backward(hidden, dy, d_hidden, again);
    case Activation::kGeGlu: {
      const auto halves = hidden.to(accumulate_type(hidden)).chunk(2, 1);
      const auto d_halves = d_hidden.chunk(2, 1);
      const Tensor gate = tanh_gelu(halves[0]);
      d_halves[0].copy_(at::gelu_backward(dy * halves[1], halves[0], "tanh"));
      d_halves[1].copy_(dy * gate);
      again.copy_(gate * halves[1]);
      return;
    }
    case Activation::kGelu:
      at::gelu_backward_out(d_hidden, dy, hidden, "tanh");
      at::gelu_out(again, hidden, "tanh");
      return;
    case Activation::kRelu:
      at::threshold_backward_out(d_hidden, dy, hidden, 0);
      at::relu_out(again, hidden);
      return;
  }
  TORCH_CHECK_VALUE(false, "unknown activation ", static_cast<int>(activation));
}

Tensor plain_activation(const Tensor& hidden, Activation activation) {
  if (!is_gated(activation)) return activation == Activation::kGelu ? tanh_gelu(hidden) : torch::relu(hidden);
  const auto halves = hidden.chunk(2, -1);
  return (activation == Activation::kGeGlu ? tanh_gelu(halves[0]) : torch::silu(halves[0])) * halves[1];
}

}  // namespace switchyard
