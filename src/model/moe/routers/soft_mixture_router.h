// The mixture of experts of Jacobs, Jordan, Nowlan and Hinton 1991: every expert weighs in.
#pragma once

#include "model/moe/router.h"

namespace switchyard {

// p = softmax(x W^T) in float32, and y = sum_i p_i y_i over all E experts (section 1, "cooperative" form), so that
// d y / d logit_i = p_i (y_i - y). K = E; a token's experts are sorted by probability. Every expert sees every token:
// the load is even by construction, and the load-balancing loss over all choices is the constant 1
// (moe.aux_loss_choices first balances the most probable ones). The paper's competitive error is
// ops/mixture_cross_entropy.h.
class SoftMixtureRouter : public Router {
 public:
  SoftMixtureRouter(const MoeConfig& config, int64_t hidden_size);

  RouterOutput forward(const RouterInput& input) override;

 private:
  torch::Tensor weight_;  // [E, D]
};

}  // namespace switchyard
