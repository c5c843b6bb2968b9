#include "losses/auxiliary.h"

#include "losses/load_balancing.h"

namespace switchyard {

using torch::Tensor;

namespace {

// Each token's probabilities over its chosen experts only, zero elsewhere: [T, E].
Tensor among_chosen(const RouterOutput& router) {
  Tensor mask = torch::zeros_like(router.probabilities);
  const Tensor chosen =
      router.chosen.defined() ? router.chosen.to(mask.scalar_type()) : torch::ones_like(router.weights);
  const Tensor masked = router.probabilities * mask.scatter_add(1, router.expert_ids, chosen.detach());
  return masked / masked.sum(-1, /*keepdim=*/true).clamp_min(1e-20);
}

Tensor balance_of(const RouterOutput& router, const MoeConfig& config, int64_t num_sequences,
                  const Tensor& global_load) {
  const auto type = router.probabilities.scalar_type();
  const Tensor probabilities =
      config.aux_loss_probabilities == AuxLossProbabilities::kChosen ? among_chosen(router) : router.probabilities;
  const auto counts = [&](int64_t sequences) { return balanced_counts(router, config.aux_loss_choices, sequences); };
  if (config.aux_loss_scope == AuxLossScope::kSequence) {
    return sequence_load_balancing_loss(probabilities, load_from_counts(counts(num_sequences), type));
  }
  const bool global = config.aux_loss_scope == AuxLossScope::kGlobalBatch && global_load.defined();
  return load_balancing_loss(probabilities, global ? global_load.to(type) : load_from_counts(counts(1)[0], type));
}

// Total weight per expert: [E], differentiable.
Tensor importance(const RouterOutput& router) {
  return torch::zeros_like(router.probabilities).scatter_add(1, router.expert_ids, router.weights).sum(0);
}

Tensor group_balance_of(const RouterOutput& router) {
  const Tensor& p = router.group_probabilities;
  const Tensor ids = router.group_ids.flatten();
  const Tensor counts = torch::zeros({p.size(1)}, ids.options()).scatter_add_(0, ids, torch::ones_like(ids));
  return load_balancing_loss(p, load_from_counts(counts, p.scalar_type()));
}

}  // namespace

Tensor balanced_counts(const RouterOutput& router, AuxLossChoices choices, int64_t num_sequences) {
  if (choices == AuxLossChoices::kAll) return tokens_per_expert_and_sequence(router, num_sequences);
  RouterOutput first = router;
  first.expert_ids = router.expert_ids.narrow(1, 0, 1);
  first.counts = Tensor();
  if (router.chosen.defined()) first.chosen = router.chosen.narrow(1, 0, 1);
  return tokens_per_expert_and_sequence(first, num_sequences);
}

std::vector<NamedLoss> auxiliary_losses(const std::vector<RouterOutput>& routers, const MoeConfig& config,
                                        int64_t num_sequences, const Tensor& global_load) {
  std::vector<NamedLoss> losses;
  const auto add = [&](const char* name, double coefficient, const Tensor& value) {
    auto found = std::find_if(losses.begin(), losses.end(), [&](const NamedLoss& loss) { return loss.name == name; });
    if (found == losses.end()) {
      losses.push_back({name, coefficient, value, 1});
    } else {
      found->value = found->value + value;
      ++found->num_layers;
    }
  };
  const bool mean = config.aux_loss_layers == AuxLossLayers::kMean;
  const double balance = config.aux_loss_coeff / (mean ? static_cast<double>(routers.size()) : 1.0);
  for (size_t i = 0; i < routers.size(); ++i) {
    const RouterOutput& router = routers[i];
    const Tensor load = global_load.defined() ? global_load[static_cast<int64_t>(i)] : Tensor();
    add("aux_loss", balance, balance_of(router, config, num_sequences, load));
    add("z_loss", config.z_loss_coeff, router_z_loss(router.logits));
    if (router.smooth_load.defined()) {
      add("importance_loss", config.router.importance_coeff, variation_loss(importance(router)));
      add("load_loss", config.router.load_coeff, variation_loss(router.smooth_load));
    }
    if (router.group_probabilities.defined()) add("group_aux_loss", balance, group_balance_of(router));
    if (router.smooth_experts.defined()) {
      add("budget_loss", config.router.budget_coeff, budget_loss(router.smooth_experts, choices_of_a_token(config)));
    }
  }
  return losses;
}

}  // namespace switchyard
