// One optimisation step, end to end: forward and backward over the micro-batches, the gradient norm, the update.
// Legend: L MoE layers, E experts, T tokens of the step.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ops/torch.h"
#include "parallel/gradient_buckets.h"
#include "parallel/world.h"
#include "train/setup.h"

namespace switchyard {

// What the routers of one step did, on the device: float64 sums over the whole step's tokens.
struct RoutingTotals {
  std::vector<int64_t> layers;          // which block each row belongs to
  torch::Tensor tokens_per_expert;      // [L, E] assignments before drops
  torch::Tensor dropped;                // [L] assignments dropped
  std::vector<torch::Tensor> observed;  // [L] sums over micro-batches of RouterOutput::observed, or undefined
  int64_t num_micro_batches = 0;
  int64_t num_tokens = 0;  // T
  // Only in logged steps, else undefined:
  torch::Tensor probability_sums;    // [L, E]
  torch::Tensor token_entropy_sums;  // [L] nats
  // Only where the model measures (logged steps), else undefined:
  torch::Tensor logit_squares;  // [L, E] squared router logits
  torch::Tensor logit_sums;     // [L, 3] each token's L2 norm of the logits; its squared logsumexp; 1
  torch::Tensor output_norms;   // [L, E, 2] as RouterOutput::output_norms
};

// Whether metrics are written after this step (from 1 on); only then are those measured that are not free.
bool is_logged_step(const Config& config, int64_t step);
// The tensors in it that are sums over tokens or micro-batches, in a fixed order.
std::vector<torch::Tensor*> sums_of(RoutingTotals& totals);
// Adds one micro-batch's routing to the totals (made on first use). `logged`: all of it, not only what training needs.
void accumulate_routing(RoutingTotals& totals, const std::vector<RouterOutput>& routers, bool logged);

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
  int faulty_rank = -1;                                   // the first rank whose own loss is not finite, if any
  int notice = 0;                                         // the largest of what the ranks gave to gradients()
  bool finite() const;
  // One of `auxiliary` by name; 0 where there is none.
  double auxiliary_loss(std::string_view name) const;
};

// Micro-batch `index` of the step at hand, counted over all ranks.
using MicroBatchSource = std::function<BatchTensors(int64_t index)>;

// The numbers of a step follow from the configuration and the step alone, not from the number of ranks: each takes its
// share of the micro-batches, which keep their numbers and with them their randomness.
class TrainingStep {
 public:
  // Takes the parameters of `model` as they are and keeps master weights of those that are computed with in another
  // type (trained_parameters_of()). With several ranks in an expert-parallel group, installs the dispatcher that
  // reaches the other ranks' experts.
  TrainingStep(Transformer model, const Config& config, std::shared_ptr<World> world = World::alone());

  // Forward and backward over this rank's share of `micro_batches` micro-batches, which the number of ranks divides.
  // The gradients of the mean loss over all of them are left for update(). With moe.aux_loss_scope global_batch the
  // load is that of the whole step's batch: where this rank has several micro-batches, a first pass without gradients
  // counts it (docs/losses.md). `notice` is a number for all ranks. One host read at the end. Collectives: those of the
  // model and of GradientBuckets, an all-reduce of the loads and one of the routing totals, an all-gather.
  StepLosses gradients(int64_t step, int64_t micro_batches, const MicroBatchSource& source, int notice = 0);
  // The update with these gradients, and their removal. Collectives: GradientBuckets::gather_parameters().
  void update(double lr);
  void discard();
  // After something else wrote to buckets().parameters(): the model computes with it from now on.
  void weights_changed() { buckets_.refresh_model(); }

  const RoutingTotals& routing() const { return routing_; }
  const DepthTotals& depths() const { return depths_; }
  AdamW& optimizer() { return optimizer_; }
  const GradientBuckets& buckets() const { return buckets_; }

 private:
  struct Sums;
  torch::Tensor count_global_load(int64_t step, int64_t first, int64_t count, const MicroBatchSource& source);
  torch::Tensor loads_over_ranks(torch::Tensor counts);
  torch::Tensor loads_of(const std::vector<RouterOutput>& routers) const;
  torch::Tensor with_auxiliary(const ModelOutput& output, const torch::Tensor& lm, int64_t num_sequences,
                               torch::Tensor global_load, Sums& sums, std::vector<torch::Tensor>& parts);
  void one_micro_batch(const BatchTensors& batch, double share, torch::Tensor global_load, bool logged, Sums& sums);
  void add_totals_over_ranks();
  StepLosses over_ranks(const Sums& sums, int notice);

  Transformer model_;
  std::shared_ptr<World> world_;
  GradientBuckets buckets_;
  AdamW optimizer_;
  Config config_;
  RoutingTotals routing_;
  DepthTotals depths_;
  torch::Tensor norm_;
};

}  // namespace switchyard
