// A mixture-of-experts feed-forward: router, dispatch, experts, and experts that every token shares.
// Legend: T tokens, D hidden, E experts.
#pragma once

#include <memory>

#include "config/config.h"
#include "model/feed_forward.h"
#include "model/moe/dispatcher.h"
#include "model/moe/router.h"
#include "ops/torch.h"

namespace switchyard {

class MoeLayerImpl : public torch::nn::Module {
 public:
  // `experts`: those whose weights are here; the dispatcher reaches the others. Default: all of them.
  MoeLayerImpl(const MoeConfig& config, const ModelConfig& model, int64_t layer,
               std::optional<ExpertRange> experts = std::nullopt);

  struct Output {
    torch::Tensor y;  // [T, D]
    RouterOutput routing;
  };
  // capacity_factor: none is dropless. `measure`: fill RouterOutput::output_norms. Collectives: those of the
  // dispatcher.
  Output forward(const RouterInput& input, Dispatcher& dispatcher, std::optional<double> capacity_factor,
                 bool measure = false);
  Router& router() { return *router_; }

 private:
  RouterOutput route(const RouterInput& input, std::optional<double> capacity_factor);

  torch::Tensor through_slots(const torch::Tensor& x, const SlotWeights& slots, Dispatcher& dispatcher,
                              const ExpertFunction& experts, const Meanwhile& meanwhile, torch::Tensor* output_norms);

  torch::Tensor each_alone(const torch::Tensor& x, Dispatcher& dispatcher, const ExpertFunction& experts,
                           const Meanwhile& meanwhile, torch::Tensor* output_norms);

  MoeConfig config_;
  int64_t layer_;
  bool compete_;
  std::shared_ptr<Router> router_;
  FeedForward experts_{nullptr};
  FeedForward shared_experts_{nullptr};  // null when there are none
  FeedForward dense_residual_{nullptr};  // null when there is none
};
TORCH_MODULE(MoeLayer);

}  // namespace switchyard
