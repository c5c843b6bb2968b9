#include "model/moe/dispatcher.h"

namespace switchyard {

using torch::Tensor;

namespace {

// As RouterOutput::output_norms, of rows sorted by expert. One matrix product instead of scattered sums: one order.
Tensor norms_per_expert(const Tensor& rows, const RouterOutput& routing, const ExpertOrder& order) {
  const torch::NoGradGuard no_grad;
  const int64_t num_experts = routing.logits.size(1);
  const auto wide = rows.options().dtype(torch::kFloat64);
  const Tensor row = order.row_of_choice.flatten();
  if (rows.size(0) == 0) return torch::zeros({num_experts, 2}, wide);
  const Tensor computed = (row >= 0).to(torch::kFloat64);
  const Tensor norms = torch::linalg_vector_norm(rows, 2, 1).to(torch::kFloat64).index_select(0, row.clamp_min(0));
  const Tensor expert = routing.expert_ids.reshape({-1, 1});
  const Tensor of_expert = torch::zeros({row.size(0), num_experts}, wide).scatter_(1, expert, computed.unsqueeze(1));
  return torch::mm(of_expert.t(), torch::stack({norms, torch::ones_like(norms)}, 1));
}

}  // namespace

Tensor Dispatcher::run(const Tensor& x, const RouterOutput& routing, const ExpertFunction& experts,
                       const Meanwhile& meanwhile, Tensor* output_norms) {
  const ExpertOrder order =
      order_by_expert(routing.expert_ids, routing.logits.size(1), routing.dispatched(), row_count());
  const Tensor rows = compute(permute_tokens(x, order), order.offsets, experts, meanwhile);
  if (output_norms != nullptr) *output_norms = norms_per_expert(rows.detach(), routing, order);
  return combine_tokens(rows, routing.weights, order);
}

Tensor LocalDispatcher::compute(const Tensor& rows, const Tensor& offsets, const ExpertFunction& experts,
                                const Meanwhile& meanwhile) {
  const Tensor computed = experts(rows, offsets);
  if (meanwhile) meanwhile();
  return computed;
}

}  // namespace switchyard
