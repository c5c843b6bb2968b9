// The gradients of one training step, for tests of what a step does.
#pragma once

#include "tests/support/models.h"
#include "train/step.h"

namespace switchyard::test {

constexpr int64_t kSequences = 8;
constexpr int64_t kLength = 6;

struct Outcome {
  StepLosses losses;
  std::vector<torch::Tensor> gradients;
  RoutingTotals routing;
  DepthTotals depths;
};

// Gradients of one step over the same 8 sequences in `micro_batches` pieces, in float64 or another type of compute.
inline Outcome run_step(const Config& config, int64_t micro_batches, torch::ScalarType type = kF64) {
  const OneThread one_thread;
  Transformer model = make_model(config, type == kBf16 ? kF32 : type);
  model->set_compute_type(type);
  TrainingStep step(model, config);
  const torch::Tensor tokens = distinct_tokens(config, kSequences, kLength + 1);
  const int64_t size = kSequences / micro_batches;
  Outcome outcome;
  outcome.losses = step.gradients(1, micro_batches, [&](int64_t i) {
    const torch::Tensor part = tokens.narrow(0, i * size, size);
    return BatchTensors{part.narrow(1, 0, kLength), part.narrow(1, 1, kLength).flatten(), size};
  });
  for (const auto& [name, parameter] : step.optimizer().parameters())
    outcome.gradients.push_back(parameter.grad().clone());
  outcome.routing = step.routing();
  outcome.depths = step.depths();
  return outcome;
}

}  // namespace switchyard::test
