// grouped_mlp() in ATen operations, for devices and types without a fused loop.
#include <torch/csrc/autograd/custom_function.h>

#include "ops/activation.h"
#include "ops/grouped_mlp.h"

namespace switchyard {

using torch::Tensor;

namespace {

// Whether at::_grouped_mm takes these: bfloat16, and rows of whole 16 bytes.
bool takes_grouped_products(const Tensor& x, const MlpWeights& weights) {
  const auto whole = [&](int64_t width) { return width * static_cast<int64_t>(x.element_size()) % 16 == 0; };
  return x.scalar_type() == torch::kBFloat16 && whole(x.size(1)) && whole(weights.up.size(1)) &&
         whole(weights.down.size(2));
}

// The weights of each expert. The backward of selecting one would fill the gradient of all, once per expert.
struct EveryExpert {
  std::vector<Tensor> up, down, up_bias, down_bias;

  explicit EveryExpert(const MlpWeights& all)
      : up(all.up.unbind(0)), down(all.down.unbind(0)), up_bias(parts(all.up_bias)), down_bias(parts(all.down_bias)) {}

  static std::vector<Tensor> parts(const Tensor& bias) {
    return bias.defined() ? bias.unbind(0) : std::vector<Tensor>();
  }
};

Tensor plain_linear(const Tensor& x, const Tensor& weight, const std::vector<Tensor>& bias, size_t expert) {
  const Tensor y = torch::mm(x, weight.t());
  return bias.empty() ? y : y + bias[expert];
}

Tensor plain_expert(const Tensor& x, const EveryExpert& weights, Activation activation, size_t expert) {
  const Tensor hidden = plain_linear(x, weights.up[expert], weights.up_bias, expert);
  return plain_linear(plain_activation(hidden, activation), weights.down[expert], weights.down_bias, expert);
}

// Weights of which only those with rows get a gradient: what a grouped GEMM writes for the others is not defined.
struct GradientWhereRows : torch::autograd::Function<GradientWhereRows> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& weights, const Tensor& has_rows) {
    context->save_for_backward({has_rows});
    return weights.view_as(weights);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const Tensor without = context->get_saved_variables()[0].logical_not().view({-1, 1, 1});
    return {gradients[0].masked_fill(without, 0), Tensor()};
  }
};

}  // namespace

Tensor grouped_mlp_reference(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
  if (!x.is_cpu() && takes_grouped_products(x, weights)) return grouped_mlp_on_device(x, offsets, weights, activation);
  std::vector<Tensor> parts;
  const EveryExpert every(weights);
  const Tensor ends = offsets.cpu();
  int64_t begin = 0;
  for (int64_t expert = 0; expert < ends.numel(); ++expert) {
    const int64_t end = ends.const_data_ptr<int64_t>()[expert];
    parts.push_back(plain_expert(x.narrow(0, begin, end - begin), every, activation, static_cast<size_t>(expert)));
    begin = end;
  }
  Tensor y = torch::cat(parts);
  return y.size(0) == x.size(0) ? y : torch::cat({y, x.new_zeros({x.size(0) - y.size(0), x.size(1)})});
}

Tensor grouped_mlp_on_device(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
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
  const Tensor has_rows = ends > torch::cat({ends.new_zeros({1}), ends.narrow(0, 0, ends.numel() - 1)});
  const auto stack = [&](const Tensor& w) { return GradientWhereRows::apply(w, has_rows).transpose(1, 2); };
  const Tensor hidden = at::_grouped_mm(only_used(x), stack(weights.up), ends);
  const Tensor activated = plain_activation(with_bias(hidden, weights.up_bias), activation);
  return only_used(with_bias(at::_grouped_mm(activated, stack(weights.down), ends), weights.down_bias));
}

Tensor dense_mlp_reference(const Tensor& x, const MlpWeights& weights, Activation activation) {
  return plain_expert(x, EveryExpert(weights), activation, 0);
}

}  // namespace switchyard
