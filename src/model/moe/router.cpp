#include "model/moe/router.h"

#include "model/moe/routers/expert_choice_router.h"
#include "model/moe/routers/hash_router.h"
#include "model/moe/routers/hierarchical_router.h"
#include "model/moe/routers/noisy_top_k_router.h"
#include "model/moe/routers/quantile_router.h"
#include "model/moe/routers/sinkhorn_router.h"
#include "model/moe/routers/soft_mixture_router.h"
#include "model/moe/routers/soft_moe_router.h"
#include "model/moe/routers/threshold_router.h"
#include "model/moe/routers/top_k_router.h"
#include "ops/matrix_product.h"

namespace switchyard {

using torch::Tensor;

namespace {

Tensor count_on_cpu(const RouterOutput& output, int64_t num_sequences) {
  const Tensor ids = output.expert_ids.contiguous();
  const Tensor chosen = output.chosen.defined() ? output.chosen.contiguous() : Tensor();
  const bool* counts = chosen.defined() ? chosen.const_data_ptr<bool>() : nullptr;
  const int64_t* id = ids.const_data_ptr<int64_t>();
  const int64_t num_experts = output.logits.size(1);
  const int64_t per_sequence = ids.numel() / std::max<int64_t>(1, num_sequences);
  Tensor table = torch::zeros({num_sequences, num_experts}, torch::kInt64);
  for (int64_t sequence = 0; sequence < num_sequences; ++sequence) {
    int64_t* row = table.mutable_data_ptr<int64_t>() + sequence * num_experts;
    for (int64_t i = sequence * per_sequence; i < (sequence + 1) * per_sequence; ++i) {
      TORCH_CHECK_INDEX(id[i] >= 0 && id[i] < num_experts, "tokens_per_expert: expert ", id[i], " of ", num_experts);
      row[id[i]] += counts == nullptr || counts[i] ? 1 : 0;
    }
  }
  return table;
}

}  // namespace

Tensor tokens_per_expert(const RouterOutput& output) { return tokens_per_expert_and_sequence(output, 1).squeeze(0); }

Tensor tokens_per_expert_and_sequence(const RouterOutput& output, int64_t num_sequences) {
  const torch::NoGradGuard no_grad;
  if (num_sequences == 1 && output.counts.defined() && !output.chosen.defined()) return output.counts.unsqueeze(0);
  if (output.expert_ids.device().is_cpu()) return count_on_cpu(output, num_sequences);
  const Tensor ids = output.expert_ids.reshape({num_sequences, -1});
  const Tensor ones =
      output.chosen.defined() ? output.chosen.reshape({num_sequences, -1}).to(torch::kInt64) : torch::ones_like(ids);
  // Integers: the order in which they are added can't change the sum.
  return torch::zeros({num_sequences, output.logits.size(1)}, ids.options()).scatter_add_(1, ids, ones);
}

void Router::after_step(const Tensor&, const Tensor&) {}

Tensor router_logits(const Tensor& x, const Tensor& weight) { return linear_map(x.to(weight.scalar_type()), weight); }

std::shared_ptr<Router> make_router(const MoeConfig& config, int64_t hidden_size, int64_t layer) {
  switch (config.router.type) {
    case RouterType::kTopK:
    case RouterType::kSwitch:  // K = 1
      return std::make_shared<TopKRouter>(config, hidden_size);
    case RouterType::kNoisyTopK:
      return std::make_shared<NoisyTopKRouter>(config, hidden_size);
    case RouterType::kHierarchical:
      return std::make_shared<HierarchicalRouter>(config, hidden_size);
    case RouterType::kSoftMixture:
      return std::make_shared<SoftMixtureRouter>(config, hidden_size);
    case RouterType::kThreshold:
      return std::make_shared<ThresholdRouter>(config, hidden_size);
    case RouterType::kExpertChoice:
      return std::make_shared<ExpertChoiceRouter>(config, hidden_size);
    case RouterType::kHash:
    case RouterType::kRandom:
      return std::make_shared<HashRouter>(config, layer);
    case RouterType::kSinkhorn:
      return std::make_shared<SinkhornRouter>(config, hidden_size);
    case RouterType::kQuantile:
      return std::make_shared<QuantileRouter>(config, hidden_size);
    case RouterType::kSoftMoe:
      return std::make_shared<SoftMoeRouter>(config, hidden_size);
  }
  TORCH_CHECK_VALUE(false, "unknown router type ", static_cast<int>(config.router.type));
}

int64_t expert_capacity(int64_t num_tokens, double choices, int64_t num_experts, double capacity_factor) {
  const double places = capacity_factor * choices * static_cast<double>(num_tokens) / static_cast<double>(num_experts);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(places - 1e-9)));
}

namespace {

// The same where only the device knows how many tokens count: [] int64.
Tensor capacity_of_active(const Tensor& active, double choices, int64_t num_experts, double capacity_factor) {
  const double per_token = capacity_factor * choices / static_cast<double>(num_experts);
  return (active.sum().to(torch::kFloat64) * per_token - 1e-9).ceil().clamp_min(1).to(torch::kInt64);
}

}  // namespace

double choices_of_a_token(const MoeConfig& config) {
  const auto experts = static_cast<double>(config.num_experts);
  return static_cast<double>(config.top_k) * experts / (experts + static_cast<double>(config.router.null_experts));
}

Tensor keep_within_capacity(const RouterOutput& routing, int64_t num_experts, double choices_of_token,
                            double capacity_factor, DropPolicy policy, const Tensor& active) {
  const torch::NoGradGuard no_grad;
  const int64_t tokens = routing.expert_ids.size(0);
  const int64_t choices = routing.expert_ids.size(1);
  // What is not chosen stands behind everything else, as if it were another expert's.
  Tensor ids = routing.expert_ids;
  if (routing.chosen.defined()) ids = ids.masked_fill(routing.chosen.logical_not(), num_experts);
  // Choices in the order in which they are served: choice-major by position, then, if wanted, by weight.
  ids = ids.t().flatten();
  Tensor served = torch::arange(ids.numel(), ids.options());
  if (policy == DropPolicy::kProbability) {
    served = torch::argsort(routing.weights.t().flatten(), /*stable=*/true, 0, /*descending=*/true);
  }
  // A choice's rank among those of its expert: its place after a stable sort by expert, less the expert's first place.
  const Tensor served_ids = ids.index_select(0, served);
  const Tensor by_expert = torch::argsort(served_ids, /*stable=*/true, 0);
  const Tensor counts = torch::zeros({num_experts + 1}, ids.options()).scatter_add_(0, ids, torch::ones_like(ids));
  const Tensor first = counts.cumsum(0) - counts;
  const Tensor rank =
      torch::arange(ids.numel(), ids.options()) - first.index_select(0, served_ids.index_select(0, by_expert));
  const Tensor choice = served.index_select(0, by_expert);
  const Tensor has_place = active.defined()
                               ? rank < capacity_of_active(active, choices_of_token, num_experts, capacity_factor)
                               : rank < expert_capacity(tokens, choices_of_token, num_experts, capacity_factor);
  const Tensor fits = torch::empty_like(choice, torch::kBool).scatter_(0, choice, has_place);
  return fits.logical_and(ids < num_experts).view({choices, tokens}).t().contiguous();
}

}  // namespace switchyard
