// Brings tokens to the experts that were chosen for them and their results back. The model knows only this interface:
// experts on other ranks are reached by an implementation that train/ installs.
// Legend: T tokens, D hidden, E experts, K experts per token.
#pragma once

#include <functional>

#include "model/moe/router.h"
#include "ops/permutation.h"
#include "ops/torch.h"

namespace switchyard {

// Applies experts to rows [N, D] sorted by expert, of which expert e owns [offsets[e-1], offsets[e]); [N, D].
using ExpertFunction = std::function<torch::Tensor(const torch::Tensor& rows, const torch::Tensor& offsets)>;

// Something to compute while tokens are on their way.
using Meanwhile = std::function<void()>;

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;

  // Rows [N, D] sorted by expert, over all E experts, to wherever these are computed: [N, D] in the same order.
  // `experts` sees the rows of this process's own experts, numbered from 0. `meanwhile` runs once. Differentiable in
  // rows and whatever `experts` uses. Collectives: none here; see the implementation.
  virtual torch::Tensor compute(const torch::Tensor& rows, const torch::Tensor& offsets, const ExpertFunction& experts,
                                const Meanwhile& meanwhile) = 0;

  // y[t] = sum over kept choices k of weights[t, k] * expert_{ids[t, k]}(x[t]). x [T, D] -> [T, D]. Differentiable in
  // x, the weights and whatever `experts` uses. The order of the sum is fixed: choice 0 first.
  // `output_norms`, where not null, gets RouterOutput::output_norms.
  torch::Tensor run(const torch::Tensor& x, const RouterOutput& routing, const ExpertFunction& experts,
                    const Meanwhile& meanwhile = {}, torch::Tensor* output_norms = nullptr);

 protected:
  // What `run` gives to compute(): rows that travel need no rounding up.
  virtual RowCount row_count() const { return RowCount::kAligned; }
};

// Every expert on this process. Collectives: none.
class LocalDispatcher : public Dispatcher {
 public:
  torch::Tensor compute(const torch::Tensor& rows, const torch::Tensor& offsets, const ExpertFunction& experts,
                        const Meanwhile& meanwhile) override;
};

// The experts of every layer that a process holds: [first, first + count).
struct ExpertRange {
  int64_t first = 0;
  int64_t count = 0;
};

}  // namespace switchyard
