#include "model/feed_forward.h"

namespace switchyard {

using torch::Tensor;

FeedForwardImpl::FeedForwardImpl(const ModelConfig& model, int64_t num_experts, int64_t width, bool stacked)
    : activation_(model.activation), stacked_(stacked) {
  TORCH_CHECK_VALUE(stacked || num_experts == 1, "FeedForward: ", num_experts, " feed-forwards must be stacked");
  const auto make = [&](const std::string& name, std::vector<int64_t> shape) {
    if (stacked) shape.insert(shape.begin(), num_experts);
    return register_parameter(name, torch::empty(shape));
  };
  const int64_t hidden = model.hidden_size;
  const int64_t up_width = is_gated(activation_) ? 2 * width : width;
  const std::string up = is_gated(activation_) ? "gate_up" : "up";
  up_proj_ = make(up + "_proj", {up_width, hidden});
  down_proj_ = make("down_proj", {hidden, width});
  if (!model.bias) return;
  up_bias_ = make(up + "_bias", {up_width});
  down_bias_ = make("down_bias", {hidden});
}

MlpWeights FeedForwardImpl::weights(torch::ScalarType type) const {
  const auto get = [&](const Tensor& x) {
    if (!x.defined()) return x;
    return (stacked_ ? x : x.unsqueeze(0)).to(type);
  };
  return {get(up_proj_), get(down_proj_), get(up_bias_), get(down_bias_)};
}

Tensor FeedForwardImpl::forward(const Tensor& rows, const Tensor& offsets) {
  return grouped_mlp(rows, offsets, weights(rows.scalar_type()), activation_, inner_);
}

Tensor FeedForwardImpl::forward(const Tensor& x) { return dense_mlp(x, weights(x.scalar_type()), activation_, inner_); }

}  // namespace switchyard
