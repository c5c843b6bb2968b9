#include "model/moe/dispatcher.h"

namespace switchyard {

using torch::Tensor;

Tensor Dispatcher::run(const Tensor& x, const RouterOutput& routing, const ExpertFunction& experts,
                       const Meanwhile& meanwhile) {
  const ExpertOrder order =
      order_by_expert(routing.expert_ids, routing.logits.size(1), routing.dispatched(), row_count());
  const Tensor rows = compute(permute_tokens(x, order), order.offsets, experts, meanwhile);
  return combine_tokens(rows, routing.weights, order);
}

Tensor LocalDispatcher::compute(const Tensor& rows, const Tensor& offsets, const ExpertFunction& experts,
                                const Meanwhile& meanwhile) {
  const Tensor computed = experts(rows, offsets);
  if (meanwhile) meanwhile();
  return computed;
}

}  // namespace switchyard
