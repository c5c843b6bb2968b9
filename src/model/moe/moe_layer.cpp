#include "model/moe/moe_layer.h"

#include "ops/step_parts.h"

namespace switchyard {

using torch::Tensor;

MoeLayerImpl::MoeLayerImpl(const MoeConfig& config, const ModelConfig& model, int64_t layer,
                           std::optional<ExpertRange> experts)
    : config_(config),
      layer_(layer),
      compete_(config.router.error == ExpertError::kCompetitive && layer == model.num_layers - 1) {
  const int64_t hidden = model.hidden_size;
  const int64_t width = config.intermediate_size.value();
  router_ = register_module("router", make_router(config, hidden, layer));
  experts_ = register_module(
      "experts", FeedForward(model, experts ? experts->count : config.num_experts, width, /*stacked=*/true));
  if (config.num_shared_experts > 0) {
    // Always-active experts side by side are one feed-forward of their joint width.
    shared_experts_ =
        register_module("shared_experts", FeedForward(model, 1, config.num_shared_experts * width, /*stacked=*/false));
  }
  if (config.dense_residual) {
    dense_residual_ =
        register_module("dense_residual", FeedForward(model, 1, model.intermediate_size.value(), /*stacked=*/false));
  }
}

namespace {

// Tokens that don't count are no assignments, take no expert's place and enter no slot. active [T] bool.
void leave_out_inactive(RouterOutput& routing, const Tensor& active) {
  const Tensor counts = active.unsqueeze(1).expand_as(routing.expert_ids);
  routing.chosen = routing.chosen.defined() ? routing.chosen.logical_and(counts) : counts.contiguous();
  if (!routing.slots) return;
  Tensor& dispatch = routing.slots->dispatch;
  dispatch = dispatch * active.view({dispatch.size(0), -1, 1}).to(dispatch.scalar_type());
  dispatch = dispatch / dispatch.sum(1, /*keepdim=*/true).clamp_min(1e-20);
}

// As RouterOutput::output_norms, of computed [E, ..., D].
Tensor norms_of(const Tensor& computed) {
  const Tensor norms = torch::linalg_vector_norm(computed.detach(), 2, -1).to(torch::kFloat64).flatten(1);
  return torch::stack({norms.sum(1), torch::full_like(norms.sum(1), norms.size(1))}, 1);
}

}  // namespace

// Every expert computes its slots, which are mixtures of a sequence's tokens. x [T, D] -> [T, D].
Tensor MoeLayerImpl::through_slots(const Tensor& x, const SlotWeights& slots, Dispatcher& dispatcher,
                                   const ExpertFunction& experts, const Meanwhile& meanwhile, Tensor* output_norms) {
  const int64_t sequences = slots.dispatch.size(0);
  const int64_t num_experts = config_.num_experts;
  const int64_t per_expert = slots.dispatch.size(2) / num_experts;
  const Tensor tokens = x.view({sequences, -1, x.size(1)});
  const Tensor mixed = torch::bmm(slots.dispatch.transpose(1, 2).to(x.scalar_type()), tokens);  // [B, E P, D]
  const Tensor rows = mixed.view({sequences, num_experts, per_expert, -1}).transpose(0, 1).flatten(0, 2);
  const Tensor offsets = sequences * per_expert *
                         torch::arange(1, num_experts + 1, torch::TensorOptions(torch::kInt64).device(x.device()));
  const Tensor computed =
      dispatcher.compute(rows, offsets, experts, meanwhile).view({num_experts, sequences, per_expert, -1});
  if (output_norms != nullptr) *output_norms = norms_of(computed);
  return torch::bmm(slots.combine.to(x.scalar_type()), computed.transpose(0, 1).flatten(1, 2)).view_as(x);
}

// Every expert computes every token. x [T, D] -> [E, T, D].
Tensor MoeLayerImpl::each_alone(const Tensor& x, Dispatcher& dispatcher, const ExpertFunction& experts,
                                const Meanwhile& meanwhile, Tensor* output_norms) {
  const int64_t num_experts = config_.num_experts;
  const Tensor offsets =
      x.size(0) * torch::arange(1, num_experts + 1, torch::TensorOptions(torch::kInt64).device(x.device()));
  const Tensor computed = dispatcher.compute(x.repeat({num_experts, 1}), offsets, experts, meanwhile)
                              .view({num_experts, x.size(0), x.size(1)});
  if (output_norms != nullptr) *output_norms = norms_of(computed);
  return computed;
}

RouterOutput MoeLayerImpl::route(const RouterInput& input, std::optional<double> capacity_factor) {
  const StepPartScope part(StepPart::kRouter);
  RouterOutput routing = router_->forward(input);
  routing.layer = layer_;
  if (input.active.defined()) leave_out_inactive(routing, input.active);
  if (capacity_factor) {
    routing.kept = keep_within_capacity(routing, config_.num_experts, choices_of_a_token(config_), *capacity_factor,
                                        config_.drop_policy, input.active);
  }
  return routing;
}

MoeLayerImpl::Output MoeLayerImpl::forward(const RouterInput& input, Dispatcher& dispatcher,
                                           std::optional<double> capacity_factor, bool measure) {
  Output output;
  Tensor* const norms = measure ? &output.routing.output_norms : nullptr;
  const Tensor& x = input.x;
  output.routing = route(input, capacity_factor);
  const ExpertFunction experts = [this](const Tensor& rows, const Tensor& offsets) {
    const StepPartScope part(StepPart::kExperts);
    return experts_->forward(rows, offsets);
  };
  Tensor shared;
  const Meanwhile meanwhile = [&] {
    const StepPartScope part(StepPart::kExperts);
    if (shared_experts_) shared = shared_experts_->forward(x);
  };
  const StepPartScope part(StepPart::kDispatch);
  if (compete_) {
    output.routing.alone = each_alone(x, dispatcher, experts, meanwhile, norms);
    const Tensor weights = output.routing.probabilities.t().unsqueeze(-1);  // [E, T, 1]
    output.y = (weights.to(x.scalar_type()) * output.routing.alone).sum(0);
  } else {
    output.y = output.routing.slots ? through_slots(x, *output.routing.slots, dispatcher, experts, meanwhile, norms)
                                    : dispatcher.run(x, output.routing, experts, meanwhile, norms);
  }
  for (const Tensor& beside : {shared, dense_residual_ ? dense_residual_->forward(x) : Tensor()}) {
    if (!beside.defined()) continue;
    output.y = output.y + beside;
    if (compete_) output.routing.alone = output.routing.alone + beside;
  }
  return output;
}

}  // namespace switchyard
