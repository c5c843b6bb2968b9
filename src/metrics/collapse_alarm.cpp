#include "metrics/collapse_alarm.h"

#include <algorithm>

#include "base/text.h"

namespace switchyard {
namespace {

// "3, 5, 7 and 9 more".
std::string listed(const std::vector<int64_t>& experts) {
  constexpr size_t kNamed = 8;
  std::string text;
  for (size_t i = 0; i < std::min(kNamed, experts.size()); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(experts[i]);
  }
  return experts.size() > kNamed ? text + " and " + std::to_string(experts.size() - kNamed) + " more" : text;
}

// From here on a balancing loss costs quality and balances no better.
constexpr double kEnough = 0.1;

constexpr const char* kCalmer = "lower optimizer.lr or lengthen schedule.warmup_steps";

std::string advice_for_learned_routing(const MoeConfig& moe) {
  const double coeff = moe.aux_loss_coeff;
  std::string balance;
  if (coeff == 0) {
    balance = "set moe.aux_loss_coeff=0.01 (now 0)";
  } else if (coeff < kEnough) {
    balance = formatted("raise moe.aux_loss_coeff (now %g) towards %g", coeff, coeff < 0.01 ? 0.01 : kEnough);
  }
  if (moe.router.expert_bias) {
    return formatted("raise moe.router.bias_rate (now %g)", moe.router.bias_rate) +
           (balance.empty() ? std::string(", ") + kCalmer : ", or " + balance);
  }
  const char* bias = moe.router.type == RouterType::kTopK ? ", or set moe.router.expert_bias=true" : "";
  if (coeff < 0.01) return balance + bias;
  return kCalmer + (balance.empty() ? "" : ", " + balance) + bias;
}

std::string advice_for_noisy_top_k(const RouterConfig& router) {
  std::string text;
  const auto raise = [&](const char* key, double coeff) {
    if (coeff < kEnough) text += formatted("%s%s (now %g)", text.empty() ? "raise " : " and ", key, coeff);
  };
  raise("moe.router.importance_coeff", router.importance_coeff);
  raise("moe.router.load_coeff", router.load_coeff);
  return text.empty() ? kCalmer : text + formatted(" towards %g", kEnough);
}

}  // namespace

double overload_limit(const AlarmConfig& config, double experts_per_token, int64_t num_experts) {
  const double fair = experts_per_token / static_cast<double>(num_experts);
  return fair < 1 ? fair + config.load_share * (1 - fair) : 2.0;
}

bool CollapseAlarm::sounds(int64_t layer, CollapseKind kind, bool holds) {
  int64_t& streak = streaks_[{layer, kind}];
  streak = holds ? streak + 1 : 0;
  return streak == config_.patience;
}

std::vector<Collapse> CollapseAlarm::judge(int64_t layer, const RoutingStatistics& statistics) {
  std::vector<Collapse> found;
  if (config_.action == AlarmAction::kOff || statistics.load.empty()) return found;
  const auto num_experts = static_cast<int64_t>(statistics.load.size());
  const auto most = std::max_element(statistics.load.begin(), statistics.load.end());
  const double share = *most * statistics.experts_per_token;
  const double limit = overload_limit(config_, statistics.experts_per_token, num_experts);
  // Shares are quotients of counts: a limit of exactly 1 must be reached in spite of rounding.
  if (sounds(layer, CollapseKind::kLoad, num_experts > 1 && share > 0 && share >= limit * (1 - 1e-9))) {
    found.push_back({CollapseKind::kLoad, layer, {most - statistics.load.begin()}, share, limit});
  }
  const double dead = static_cast<double>(statistics.dead_experts) / static_cast<double>(num_experts);
  if (sounds(layer, CollapseKind::kDead, statistics.dead_experts > 0 && dead >= config_.dead_share)) {
    found.push_back({CollapseKind::kDead, layer, statistics.dead, dead, config_.dead_share});
  }
  return found;
}

std::string describe_collapse(const Collapse& collapse) {
  if (collapse.kind == CollapseKind::kLoad) {
    return formatted("layer %ld: expert %ld takes %.0f %% of the tokens (alarm from %.0f %%)", collapse.layer,
                     collapse.experts.at(0), 100 * collapse.share, 100 * collapse.limit);
  }
  return formatted("layer %ld: %zu experts (%.0f %%) see no tokens (alarm from %.0f %%): %s", collapse.layer,
                   collapse.experts.size(), 100 * collapse.share, 100 * collapse.limit,
                   listed(collapse.experts).c_str());
}

std::string advice_against(const Collapse& collapse, const MoeConfig& moe) {
  switch (moe.router.type) {
    case RouterType::kHash:
    case RouterType::kRandom:
      return "tokens are spread by a fixed rule, so that frequent tokens weigh heavily: choose another moe.router.type";
    case RouterType::kNoisyTopK:
      return advice_for_noisy_top_k(moe.router);
    case RouterType::kTopK:
    case RouterType::kSwitch:
    case RouterType::kHierarchical:
    case RouterType::kSoftMixture:
    case RouterType::kThreshold:
    case RouterType::kSinkhorn:
    case RouterType::kQuantile:
    case RouterType::kExpertChoice:
    case RouterType::kSoftMoe:
      break;
  }
  std::string advice = advice_for_learned_routing(moe);
  if (collapse.kind == CollapseKind::kDead && moe.num_experts > 2 * moe.top_k) {
    return advice + "; or use fewer experts than moe.num_experts=" + std::to_string(moe.num_experts);
  }
  return advice;
}

const char* kind_name(CollapseKind kind) { return kind == CollapseKind::kLoad ? "load" : "dead_experts"; }

OrderedJson alarm_event(int64_t step, const Collapse& collapse, const std::string& advice) {
  return {{"event", "alarm"},
          {"step", step},
          {"layer", collapse.layer},
          {"kind", kind_name(collapse.kind)},
          {"experts", collapse.experts},
          {"share", collapse.share},
          {"limit", collapse.limit},
          {"message", describe_collapse(collapse)},
          {"advice", advice}};
}

}  // namespace switchyard
