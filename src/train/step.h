// One optimisation step, end to end: forward and backward over the micro-batches, the gradient norm, the update.
// Legend: L MoE layers, E experts, T tokens of the step.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "train/setup.h"

namespace switchyard {

// What the routers of one step did, on the device: float64 sums over the whole step's tokens.
struct RoutingTotals {
  std::vector<int64_t> layers;          // which block each row belongs to
  torch::Tensor tokens_per_expert;      // [L, E] assignments before drops
  torch::Tensor probability_sums;       // [L, E]
  torch::Tensor token_entropy_sums;     // [L] nats
  torch::Tensor dropped;                // [L] assignments dropped
  std::vector<torch::Tensor> observed;  // [L] sums over micro-batches of RouterOutput::observed, or undefined
  int64_t num_micro_batches = 0;
  int64_t num_tokens = 0;  // T
  // Only where the model measures (logged steps), else undefined:
  torch::Tensor logit_squares;  // [L, E] squared router logits
  torch::Tensor logit_sums;     // [L, 3] each token's L2 norm of the logits; its squared logsumexp; 1
  torch::Tensor output_norms;   // [L, E, 2] as RouterOutput::output_norms
};

// Whether metrics are written after this step (from 1 on); only then are those measured that are not free.
bool is_logged_step(const Config& config, int64_t step);

// Adds one micro-batch's routing to the totals (made on first use).
void accumulate_routing(RoutingTotals& totals, const std::vector<RouterOutput>& routers);

// How many tokens passed through the blocks that they may skip (Mixture of Depths): sums over the whole step.
struct DepthTotals {
  std::vector<int64_t> layers;  // which block each row belongs to
  torch::Tensor counts;         // [layers, 3] float64 on the device, as in depth_counts()
  int64_t num_tokens = 0;
};
// Adds one micro-batch to the totals (made on first use).
void accumulate_depths(DepthTotals& totals, const std::vector<DepthOutput>& depths);

// Losses in nats per token, averaged over the step's micro-batches.
struct StepLosses {
  double total = 0;                                       // what the gradient is of
  double lm = 0;                                          // the language-model loss
  double grad_norm = 0;                                   // before clipping
  std::vector<std::pair<std::string, double>> auxiliary;  // unweighted, mean over the layers; see losses/auxiliary.h
  bool finite() const;
  // One of `auxiliary` by name; 0 where there is none.
  double auxiliary_loss(std::string_view name) const;
};

// Micro-batch `index` of the step at hand.
using MicroBatchSource = std::function<BatchTensors(int64_t index)>;

class TrainingStep {
 public:
  TrainingStep(Transformer model, AdamW& optimizer, const Config& config);

  // Forward and backward over `micro_batches` micro-batches, gradients of the mean loss left in the parameters. With
  // moe.aux_loss_scope global_batch and several micro-batches a first pass without gradients counts the load of the
  // whole batch, so that the loss is exactly that of one large batch (docs/losses.md). One host read at the end.
  StepLosses gradients(int64_t step, int64_t micro_batches, const MicroBatchSource& source);
  // The update with these gradients, and their removal.
  void update(double lr);
  void discard();

  const RoutingTotals& routing() const { return routing_; }
  const DepthTotals& depths() const { return depths_; }

 private:
  torch::Tensor count_global_load(int64_t step, int64_t micro_batches, const MicroBatchSource& source);

  Transformer model_;
  AdamW& optimizer_;
  Config config_;
  RoutingTotals routing_;
  DepthTotals depths_;
  torch::Tensor norm_;
};

}  // namespace switchyard
