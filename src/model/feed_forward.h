// Feed-forwards: one dense one, or a stack of experts. Weights are stored [out, in], as in transformers; several
// feed-forwards are stacked in front.
// Legend: E feed-forwards (1 when dense), D hidden, F width, W width of the first map's result (2F when gated, else F).
#pragma once

#include "config/config.h"
#include "ops/grouped_mlp.h"
#include "ops/torch.h"

namespace switchyard {

// With model.activation (formulas: ops/grouped_mlp.h) and, where model.bias asks for them, biases.
class FeedForwardImpl : public torch::nn::Module {
 public:
  // `stacked` keeps the leading E dimension in the parameters; a dense feed-forward has none.
  FeedForwardImpl(const ModelConfig& model, int64_t num_experts, int64_t width, bool stacked);

  // rows [N, D] sorted by expert, offsets [E] as in ops/grouped_mlp.h -> [N, D].
  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets);
  // All rows through the only expert. x [N, D] -> [N, D].
  torch::Tensor forward(const torch::Tensor& x);
  // Whether the values between the two maps are kept for the backward pass (the default) or computed again.
  void set_inner(Inner inner) { inner_ = inner; }

 private:
  MlpWeights weights(torch::ScalarType type) const;

  Activation activation_;
  bool stacked_;
  Inner inner_ = Inner::kKept;
  torch::Tensor up_proj_;    // [E, W, D] or [W, D]: gate_up_proj, gate first, or up_proj when not gated
  torch::Tensor down_proj_;  // [E, D, F] or [D, F]: down_proj
  torch::Tensor up_bias_;    // [E, W] or [W]: gate_up_bias or up_bias; undefined without model.bias
  torch::Tensor down_bias_;  // [E, D] or [D]: down_bias
};
TORCH_MODULE(FeedForward);

}  // namespace switchyard
