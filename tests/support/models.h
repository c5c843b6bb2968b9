// Built and initialised models for tests.
#pragma once

#include "model/transformer.h"
#include "tests/support/configs.h"
#include "tests/support/gradient_check.h"
#include "tests/support/one_thread.h"
#include "tests/support/tensors.h"

namespace switchyard::test {

// A model in `type` throughout, in training mode. Norm weights and the stack's biases are moved off one and zero, so
// that a forgotten one shows; predictors of Mixture of Depths start as they do.
inline Transformer make_model(const Config& config, torch::ScalarType type = kF64, uint64_t seed = 7) {
  Transformer model(config);
  model->initialise(seed);
  model->to(type);
  model->set_compute_type(type);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->named_parameters()) {
    const bool bias = parameter.key().ends_with("_bias") && !parameter.key().ends_with("predictor_bias");
    if (!bias && !parameter.key().ends_with("norm")) continue;
    parameter.value().add_(0.2 * random_tensor(parameter.value().sizes(), 3));
  }
  return model;
}

inline torch::Tensor random_tokens(const Config& config, int64_t batch, int64_t sequence, uint64_t seed = 5) {
  return random_integers(*config.model.vocab_size, {batch, sequence}, seed);
}

// No token twice in a sequence: equal ones can tie in a router, and then rounding, which depends on the number of rows,
// decides between them. sequence <= vocab_size.
inline torch::Tensor distinct_tokens(const Config& config, int64_t batch, int64_t sequence, uint64_t seed = 5) {
  return random_tensor({batch, *config.model.vocab_size}, seed).argsort(int64_t{1}).narrow(1, 0, sequence).contiguous();
}

inline Leaves leaves_of(const torch::nn::Module& module) {
  Leaves leaves;
  for (const auto& parameter : module.named_parameters()) leaves.emplace_back(parameter.key(), parameter.value());
  return leaves;
}

inline torch::Tensor parameter_of(const torch::nn::Module& module, const std::string& name) {
  return module.named_parameters()[name];
}

// One (gate, up, down) feed-forward on one row, written out. gate_up [2F, D], down [D, F].
inline torch::Tensor naive_expert(const torch::Tensor& x, const torch::Tensor& gate_up, const torch::Tensor& down) {
  const auto hidden = torch::mv(gate_up, x).chunk(2);
  return torch::mv(down, hidden[0] * torch::sigmoid(hidden[0]) * hidden[1]);
}

}  // namespace switchyard::test
