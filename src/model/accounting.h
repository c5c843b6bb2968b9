// What a configuration costs, by arithmetic alone: nothing is allocated, a config of any size is answered at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"

namespace switchyard {

struct ParameterCount {
  int64_t total = 0;
  // Used by one token: active_experts() of the routed experts, so top_k where a scheme lets the number vary. In a model
  // with a mixture of depths this is a token that passes every layer.
  int64_t active = 0;
};

// One line of the table that `switchyard inspect` prints.
struct ComponentCost {
  std::string name;  // "embedding", "layer 0 attention", "layer 0 experts", ...
  ParameterCount parameters;
  double forward_flops = 0;  // per token, at the configured seq_length; a multiply-add counts two
};

// The part of a training step that one process has. The default is all of it.
struct StepShare {
  int64_t expert_parallel_size = 1;  // processes over which the experts are spread
  double expert_rows = 1;            // rows that its experts compute / those that it sends to experts
  int64_t micro_batches = 0;         // one after the other before the update; 0: all of global_batch_size
  // What is received before gradients are summed (parallel/group.h) is held as long as the backward pass lasts.
  bool holds_shared_sums = false;
  bool holds_expert_sums = false;
};

// Bytes at the configured precision and micro-batch, for one process.
struct MemoryEstimate {
  double weights = 0;      // float32 parameters, and copies of projections in bf16
  double gradients = 0;    // of what is computed with: of the copies in bf16, unless micro-batches are added up
  double optimizer = 0;    // two float32 moments
  double activations = 0;  // kept for the backward of one micro-batch
  // All of it where a step needs most: activations go as gradients come, and operations need room of their own.
  double total = 0;
};

// Bytes of all parameters when each takes 4, 2, 1 or 1/2; the scales of a quantised format come on top.
struct WeightBytes {
  double fp32 = 0;
  double bf16 = 0;
  double int8 = 0;
  double int4 = 0;
};

// All take a resolved config with model.vocab_size set. Buffers (expert biases, running thresholds) are no parameters.
std::vector<ComponentCost> component_costs(const Config& config);
ParameterCount count_parameters(const Config& config);
// Forward and backward (three times the forward). A query sees S / 2 positions on average, or W - W^2 / 2S of a sliding
// window W; a layer of the mixture of depths computes for its share of the tokens, among which its queries see half.
double training_flops_per_token(const Config& config);
// What training.recompute adds to that. Rates in FLOP/s leave it out, as the field's "model FLOPs" do.
double recomputed_flops_per_token(const Config& config);
// What the mixture of depths saves of that, its own routers deducted; 0 without one.
double depth_flops_saved_per_token(const Config& config);
// Tensors that are kept for the backward pass, counted operation by operation as the fused ones on the CPU keep them
// (ops/), and the most that is held at once in a walk back through the layers. With training.device cuda the whole
// logits are counted.
MemoryEstimate estimate_memory(const Config& config, const StepShare& share = {});
// What one more row for the experts of one layer takes of that.
double expert_row_bytes(const Config& config);
// Parameters of the routed experts of all layers.
int64_t count_expert_parameters(const Config& config);
WeightBytes weight_bytes(const Config& config);

}  // namespace switchyard
