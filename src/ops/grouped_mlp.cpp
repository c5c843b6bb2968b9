#include "ops/grouped_mlp.h"

#include "ops/fused.h"
#include "ops/matrix_product.h"

namespace switchyard {

using torch::Tensor;

namespace {

// Calls f(expert, first row, number of rows) for every expert.
template <class F>
void for_each_expert(const Tensor& offsets, F&& f) {
  const int64_t* ends = offsets.const_data_ptr<int64_t>();
  int64_t begin = 0;
  for (int64_t expert = 0; expert < offsets.numel(); ++expert) {
    f(expert, begin, ends[expert] - begin);
    begin = ends[expert];
  }
}

int64_t used_rows(const Tensor& offsets) { return offsets.const_data_ptr<int64_t>()[offsets.numel() - 1]; }

Tensor zero_from(Tensor x, int64_t row) {
  if (row < x.size(0)) x.narrow(0, row, x.size(0) - row).zero_();
  return x;
}

// out_e = rows_e weights_e^T (or weights_e when !transposed), plus bias_e where there is one, for every expert; rows
// beyond the last become zero.
Tensor grouped_product(const Tensor& rows, const Tensor& offsets, const Tensor& weights, bool transposed,
                       const Tensor& bias = {}) {
  Tensor out = torch::empty({rows.size(0), weights.size(transposed ? 1 : 2)}, rows.options());
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    if (count == 0) return;
    const Tensor weight = transposed ? weights.select(0, expert).t() : weights.select(0, expert);
    const Tensor inputs = rows.narrow(0, begin, count);
    Tensor target = out.narrow(0, begin, count);
    if (bias.defined()) {
      at::addmm_out(target, bias.select(0, expert), inputs, weight);
    } else {
      matrix_product_out(target, inputs, weight);
    }
  });
  return zero_from(out, used_rows(offsets));
}

// d_weight_e = left_e^T right_e: [E, left width, right width].
Tensor grouped_weight_gradient(const Tensor& left, const Tensor& right, const Tensor& offsets) {
  Tensor out = torch::empty({offsets.numel(), left.size(1), right.size(1)}, left.options());
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    Tensor target = out.select(0, expert);
    if (count == 0) {
      target.zero_();
    } else {
      matrix_product_out(target, left.narrow(0, begin, count).t(), right.narrow(0, begin, count));
    }
  });
  return out;
}

// d_bias_e = sum over expert e's rows of d_out: [E, width]; undefined where there is no bias.
Tensor grouped_bias_gradient(const Tensor& d_out, const Tensor& offsets, const Tensor& bias) {
  if (!bias.defined()) return {};
  Tensor out = torch::zeros({offsets.numel(), d_out.size(1)}, d_out.options());
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    Tensor target = out.select(0, expert);
    if (count > 0) at::sum_out(target, d_out.narrow(0, begin, count), 0);
  });
  return out;
}

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

// Returns {d_gate_up, the activation again}.
std::pair<Tensor, Tensor> swiglu_backward(const Tensor& gate_up, const Tensor& dy) {
  const int64_t width = dy.size(1);
  Tensor d_gate_up = torch::empty_like(gate_up);
  Tensor y = torch::empty_like(dy);
  with_element_type(gate_up, [&]<class T>(T) {
    parallel_rows(dy.size(0), 2 * width, [&](int64_t begin, int64_t end) {
      kernels::kernels<T>().swiglu_backward(input<T>(gate_up) + begin * 2 * width, input<T>(dy) + begin * width,
                                            output<T>(d_gate_up) + begin * 2 * width, output<T>(y) + begin * width,
                                            end - begin, width);
    });
  });
  return {d_gate_up, y};
}

Tensor tanh_gelu(const Tensor& x) { return at::gelu(x, "tanh"); }

// The activation of hidden [N, W]: [N, F].
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
  TORCH_CHECK_VALUE(false, "grouped_mlp: unknown activation ", static_cast<int>(activation));
}

// Returns {d_hidden, the activation again}.
std::pair<Tensor, Tensor> activation_backward(const Tensor& hidden, const Tensor& dy, Activation activation) {
  switch (activation) {
    case Activation::kSwiGlu:
      return swiglu_backward(hidden, dy);
    case Activation::kGeGlu: {
      const auto type = hidden.scalar_type();
      const auto halves = hidden.to(accumulate_type(hidden)).chunk(2, 1);
      const Tensor gate = tanh_gelu(halves[0]);
      const Tensor d_gate = at::gelu_backward(dy * halves[1], halves[0], "tanh");
      return {torch::cat({d_gate.to(type), (dy * gate).to(type)}, 1), (gate * halves[1]).to(type)};
    }
    case Activation::kGelu:
      return {at::gelu_backward(dy, hidden, "tanh"), tanh_gelu(hidden)};
    case Activation::kRelu:
      return {at::threshold_backward(dy, hidden, 0), torch::relu(hidden)};
  }
  TORCH_CHECK_VALUE(false, "grouped_mlp: unknown activation ", static_cast<int>(activation));
}

struct GroupedMlp : torch::autograd::Function<GroupedMlp> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x_any, const Tensor& offsets,
                        const Tensor& up, const Tensor& down, const std::optional<Tensor>& given_up_bias,
                        const std::optional<Tensor>& given_down_bias, Activation activation) {
    const Tensor x = x_any.contiguous();
    const Tensor up_bias = given_up_bias.value_or(Tensor());
    const Tensor down_bias = given_down_bias.value_or(Tensor());
    const Tensor hidden = grouped_product(x, offsets, up, /*transposed=*/true, up_bias);
    Tensor y = grouped_product(activation_forward(hidden, activation), offsets, down, /*transposed=*/true, down_bias);
    context->save_for_backward({x, offsets, up, down, hidden, up_bias, down_bias});
    context->saved_data["activation"] = static_cast<int64_t>(activation);
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    const Tensor& offsets = saved[1];
    const Tensor& up = saved[2];
    const Tensor& down = saved[3];
    const Tensor& hidden = saved[4];
    const auto kind = static_cast<Activation>(context->saved_data["activation"].toInt());
    const Tensor dy = gradients[0].contiguous();
    const Tensor d_activation = grouped_product(dy, offsets, down, /*transposed=*/false);
    const auto [d_hidden, activation] = activation_backward(hidden, d_activation, kind);
    return {grouped_product(d_hidden, offsets, up, /*transposed=*/false),
            Tensor(),
            grouped_weight_gradient(d_hidden, x, offsets),
            grouped_weight_gradient(dy, activation, offsets),
            grouped_bias_gradient(d_hidden, offsets, saved[5]),
            grouped_bias_gradient(dy, offsets, saved[6]),
            Tensor()};
  }
};

// The activation of hidden [..., W] through ATen's own differentiation.
Tensor plain_activation(const Tensor& hidden, Activation activation) {
  if (!is_gated(activation)) return activation == Activation::kGelu ? tanh_gelu(hidden) : torch::relu(hidden);
  const auto halves = hidden.chunk(2, -1);
  return (activation == Activation::kGeGlu ? tanh_gelu(halves[0]) : torch::silu(halves[0])) * halves[1];
}

// Grouped GEMMs that read the offsets on the device: no host synchronisation.
Tensor device_mlp(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
  const Tensor ends = offsets.to(torch::kInt32);
  const Tensor row = torch::arange(x.size(0), ends.options()).unsqueeze(1);
  // A grouped GEMM leaves rows beyond the last offset unwritten, in its result and in its gradient: `where` keeps both
  // out.
  const Tensor used = row < ends[-1];
  const auto only_used = [&](const Tensor& y) { return torch::where(used, y, torch::zeros({}, y.options())); };
  // A row's bias is picked by a product with [N, E] zeros and ones, whose gradient sums in a fixed order.
  const auto with_bias = [&](const Tensor& y, const Tensor& bias) {
    if (!bias.defined()) return y;
    const Tensor below_end = row < ends;
    const Tensor below_begin =
        torch::cat({torch::zeros_like(below_end.narrow(1, 0, 1)), below_end.narrow(1, 0, ends.numel() - 1)}, 1);
    return only_used(y + torch::mm(below_end.logical_and(below_begin.logical_not()).to(y.scalar_type()), bias));
  };
  const Tensor hidden = at::_grouped_mm(only_used(x), weights.up.transpose(1, 2), ends);
  const Tensor activated = plain_activation(with_bias(hidden, weights.up_bias), activation);
  return only_used(with_bias(at::_grouped_mm(activated, weights.down.transpose(1, 2), ends), weights.down_bias));
}

Tensor plain_linear(const Tensor& x, const Tensor& weights, const Tensor& bias, int64_t expert) {
  const Tensor y = torch::mm(x, weights[expert].t());
  return bias.defined() ? y + bias[expert] : y;
}

Tensor plain_expert(const Tensor& x, const MlpWeights& weights, Activation activation, int64_t expert) {
  const Tensor hidden = plain_linear(x, weights.up, weights.up_bias, expert);
  return plain_linear(plain_activation(hidden, activation), weights.down, weights.down_bias, expert);
}

bool is_shaped(const Tensor& bias, const Tensor& weight) {
  return !bias.defined() || bias.sizes() == weight.sizes().slice(0, 2);
}

void check_shapes(const Tensor& x, const Tensor& offsets, const MlpWeights& w, Activation activation) {
  const int64_t matrices = is_gated(activation) ? 2 : 1;
  TORCH_CHECK_VALUE(w.up.dim() == 3 && w.down.dim() == 3 && w.up.size(1) == matrices * w.down.size(2) &&
                        w.up.size(2) == x.size(1) && w.down.size(1) == x.size(1) && offsets.numel() == w.up.size(0) &&
                        w.down.size(0) == w.up.size(0) && is_shaped(w.up_bias, w.up) && is_shaped(w.down_bias, w.down),
                    "grouped_mlp: x ", x.sizes(), ", up ", w.up.sizes(), ", down ", w.down.sizes(),
                    ", their biases and offsets ", offsets.sizes(), " do not fit together");
}

}  // namespace

Tensor grouped_mlp(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
  check_shapes(x, offsets, weights, activation);
  if (!has_fused_kernel(x)) return grouped_mlp_reference(x, offsets, weights, activation);
  // An undefined tensor is no argument of an autograd function, an empty optional is.
  const auto given = [](const Tensor& bias) { return bias.defined() ? std::optional<Tensor>(bias) : std::nullopt; };
  return GroupedMlp::apply(x, offsets, weights.up.contiguous(), weights.down.contiguous(), given(weights.up_bias),
                           given(weights.down_bias), activation);
}

Tensor grouped_mlp_reference(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
  if (!x.device().is_cpu() && x.scalar_type() == torch::kBFloat16) return device_mlp(x, offsets, weights, activation);
  std::vector<Tensor> parts;
  for_each_expert(offsets.cpu(), [&](int64_t expert, int64_t begin, int64_t count) {
    parts.push_back(plain_expert(x.narrow(0, begin, count), weights, activation, expert));
  });
  Tensor y = torch::cat(parts);
  return y.size(0) == x.size(0) ? y : torch::cat({y, x.new_zeros({x.size(0) - y.size(0), x.size(1)})});
}

Tensor dense_mlp(const Tensor& x, const MlpWeights& weights, Activation activation) {
  if (!has_fused_kernel(x)) return plain_expert(x, weights, activation, 0);
  return grouped_mlp(x, torch::full({1}, x.size(0), torch::kInt64), weights, activation);
}

}  // namespace switchyard
