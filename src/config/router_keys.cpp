#include "config/router_keys.h"

#include <algorithm>

namespace switchyard {

const std::vector<std::pair<std::string, RouterType>>& router_types() {
  static const std::vector<std::pair<std::string, RouterType>> types = {
      {"top_k", RouterType::kTopK},
      {"switch", RouterType::kSwitch},
      {"noisy_top_k", RouterType::kNoisyTopK},
      {"hierarchical", RouterType::kHierarchical},
      {"soft_mixture", RouterType::kSoftMixture},
      {"expert_choice", RouterType::kExpertChoice},
      {"threshold", RouterType::kThreshold},
      {"hash", RouterType::kHash},
      {"random", RouterType::kRandom},
      {"sinkhorn", RouterType::kSinkhorn},
      {"quantile", RouterType::kQuantile},
      {"soft_moe", RouterType::kSoftMoe},
  };
  return types;
}

const std::string& router_name(RouterType type) {
  const auto& types = router_types();
  return std::find_if(types.begin(), types.end(), [&](const auto& entry) { return entry.second == type; })->first;
}

std::vector<std::string> router_keys(RouterType type) {
  switch (type) {
    case RouterType::kTopK:
      return {"softmax",   "normalize",     "jitter",       "init_scale",  "score",
              "scale",     "num_groups",    "top_groups",   "group_score", "expert_bias",
              "bias_rate", "second_expert", "null_experts", "budget_coeff"};
    case RouterType::kSwitch:
      return {"jitter", "init_scale"};
    case RouterType::kNoisyTopK:
      return {"init_scale", "importance_coeff", "load_coeff"};
    case RouterType::kHierarchical:
      return {"init_scale", "num_groups", "top_groups"};
    case RouterType::kSoftMixture:
      return {"init_scale", "error"};
    case RouterType::kExpertChoice:
      return {"init_scale", "choice_scope", "causal_form", "momentum"};
    case RouterType::kThreshold:
      return {"init_scale", "rule", "normalize", "max_experts", "budget_coeff", "threshold_rate", "initial_threshold"};
    case RouterType::kHash:
    case RouterType::kRandom:
      return {};
    case RouterType::kSinkhorn:
      return {"init_scale", "sinkhorn_iterations"};
    case RouterType::kQuantile:
      return {"init_scale", "momentum"};
    case RouterType::kSoftMoe:
      return {"init_scale", "slots_per_expert"};
  }
  return {};
}

bool needs_global_load(const Config& config) {
  if (!config.moe || config.moe->aux_loss_scope != AuxLossScope::kGlobalBatch || config.moe->aux_loss_coeff == 0) {
    return false;
  }
  const RouterType type = config.moe->router.type;
  if (type == RouterType::kSoftMixture) return config.moe->aux_loss_choices == AuxLossChoices::kFirst;
  return type != RouterType::kHash && type != RouterType::kRandom;
}

std::string why_not_causal(const Config& config) {
  if (!config.moe) return "";
  const RouterConfig& router = config.moe->router;
  if (router.type == RouterType::kSoftMoe) {
    return "moe.router.type soft_moe mixes all tokens of a sequence into every expert's input";
  }
  if (router.type == RouterType::kExpertChoice && router.causal_form == CausalForm::kNone) {
    return "with moe.router.causal_form none, whether an expert takes a token depends on later ones; use threshold";
  }
  return "";
}

std::string why_evaluation_looks_ahead(const Config& config) {
  if (config.moe && config.moe->eval_capacity_factor) {
    return "with moe.eval_capacity_factor, whether an expert has a place for a token depends on all tokens of the "
           "batch";
  }
  return why_not_causal(config);
}

}  // namespace switchyard
