// The loss of a training step, as the trainer composes it from a micro-batch's parts.
#pragma once

#include <optional>

#include "losses/auxiliary.h"
#include "losses/load_balancing.h"
#include "model/transformer.h"
#include "tests/support/tensors.h"

namespace switchyard::test {

struct TotalLoss {
  torch::Tensor value;
  std::vector<RouterOutput> routers;
};

// lm_loss and the weighted auxiliary losses of what the model made of some inputs, with targets [B, S].
inline torch::Tensor loss_of(Transformer& model, const ModelOutput& output, const torch::Tensor& targets,
                             const torch::Tensor& global_load = {}) {
  torch::Tensor loss = model->language_model_loss(output, targets.flatten());
  if (const auto& moe = model->config().moe) {
    for (const NamedLoss& part : auxiliary_losses(output.routers, *moe, targets.size(0), global_load)) {
      loss = loss + part.coefficient * part.value;
    }
  }
  return loss;
}

// The same for tokens [B, S + 1]: inputs are the first S of each, targets the last S.
inline TotalLoss total_loss(Transformer& model, const torch::Tensor& tokens, const torch::Tensor& global_load = {}) {
  const int64_t sequence = tokens.size(1) - 1;
  auto output = model->forward(tokens.narrow(1, 0, sequence));
  const torch::Tensor loss = loss_of(model, output, tokens.narrow(1, 1, sequence), global_load);
  return {loss, std::move(output.routers)};
}

// The load of every MoE layer over all of `tokens`: [layers, E].
inline torch::Tensor global_load_of(Transformer& model, const torch::Tensor& tokens) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> loads;
  for (const auto& router : total_loss(model, tokens).routers) {
    loads.push_back(load_from_counts(tokens_per_expert(router), kF64));
  }
  return torch::stack(loads);
}

}  // namespace switchyard::test
