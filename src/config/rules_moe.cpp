// The rules of the section moe.
#include <algorithm>

#include "config/load.h"
#include "config/router_keys.h"
#include "config/rule_set.h"
#include "config/scalars.h"

namespace switchyard {
namespace {

class MoeRules : public RuleSet {
 public:
  explicit MoeRules(const RuleSet& shared) : RuleSet(shared) {}

  void check() {
    const MoeConfig& moe = *c_.moe;
    require(moe.top_k <= moe.num_experts, {"moe.top_k", "moe.num_experts"},
            "is " + number(moe.top_k) + ", more than moe.num_experts " + number(moe.num_experts));
    const int64_t ranks = c_.parallel.expert_parallel_size;
    require(moe.num_experts % ranks == 0, {"parallel.expert_parallel_size", "moe.num_experts"},
            "is " + number(ranks) + ", which does not divide moe.num_experts " + number(moe.num_experts));
    check_router(moe);
    check_layer_list("moe.layer_freq", moe.layer_freq, "layer with experts", "for a dense model write 'moe: null'");
    require(moe.first_k_dense == 0 || num_moe_layers(c_) > 0, {"moe.first_k_dense", "moe.layer_freq"},
            "is " + number(moe.first_k_dense) +
                ", which leaves no layer with experts; for a dense model write "
                "'moe: null'");
  }

 private:
  // Keys of another scheme would have no effect.
  void check_router_keys(const MoeConfig& moe) {
    const std::vector<std::string> keys = router_keys(moe.router.type);
    Config plain = c_;
    plain.moe->router = RouterConfig{};
    plain.moe->router.type = moe.router.type;
    for (const ConfigDifference& difference : compare_configs(plain, c_)) {
      const std::string prefix = "moe.router.";
      if (!difference.key.starts_with(prefix)) continue;
      const std::string key = difference.key.substr(prefix.size());
      // What resolve() fills, in a configuration that was dumped.
      if (key == "init_scale" || key == "max_experts" || std::find(keys.begin(), keys.end(), key) != keys.end())
        continue;
      std::string known;
      for (const std::string& name : keys) known += (known.empty() ? "" : ", ") + name;
      require(false, {difference.key},
              "has no effect with moe.router.type " + router_name(moe.router.type) +
                  (known.empty() ? ", which has no keys" : "; that one's keys are " + known));
    }
  }

  void check_router(const MoeConfig& moe) {
    const RouterConfig& router = moe.router;
    check_router_keys(moe);
    const bool after = router.type == RouterType::kTopK && router.softmax == SoftmaxOrder::kAfter;
    require(!after || router.normalize, {"moe.router.normalize", "moe.router.softmax"},
            "is false, but with moe.router.softmax 'after' the weights sum to one already; leave it out");
    require(!after || moe.top_k > 1, {"moe.router.softmax", "moe.top_k"},
            "is after, but with moe.top_k 1 the only weight would always be 1 and the router would learn nothing from "
            "the language-model loss; use before");
    require(!after || router.score == ScoreFunction::kSoftmax, {"moe.router.softmax", "moe.router.score"},
            "is after, but moe.router.score sigmoid has no softmax; leave it out");
    require(router.second_expert == SecondExpert::kAlways || moe.top_k == 2, {"moe.router.second_expert", "moe.top_k"},
            "is random, which needs moe.top_k 2");
    require(router.expert_bias || router.bias_rate == RouterConfig{}.bias_rate,
            {"moe.router.bias_rate", "moe.router.expert_bias"},
            "is " + as_decimal(router.bias_rate) +
                ", but has no effect without moe.router.expert_bias; write true there "
                "or leave it out");
    require(router.null_experts == 0 || !router.expert_bias, {"moe.router.null_experts", "moe.router.expert_bias"},
            "can't be used with moe.router.expert_bias, which does not see the choices of null experts; leave one of "
            "them out");
    check_schemes(moe);
    check_competition();
    check_groups(moe);
  }

  // What single schemes need.
  void check_schemes(const MoeConfig& moe) {
    const RouterConfig& router = moe.router;
    require(router.type != RouterType::kSwitch || moe.top_k == 1, {"moe.top_k", "moe.router.type"},
            "is " + number(moe.top_k) + ", but moe.router.type switch sends each token to 1 expert");
    require(router.type != RouterType::kSoftMixture || moe.top_k == moe.num_experts, {"moe.top_k", "moe.router.type"},
            "is " + number(moe.top_k) + ", but with moe.router.type soft_mixture every token sees all " +
                number(moe.num_experts) + " experts (moe.num_experts); write that number");
    require(router.type != RouterType::kNoisyTopK || moe.top_k < moe.num_experts, {"moe.top_k", "moe.num_experts"},
            "is all of moe.num_experts, but the load of moe.router.type noisy_top_k needs an expert left out");
    require(router.type != RouterType::kNoisyTopK || moe.top_k > 1, {"moe.top_k", "moe.router.type"},
            "is 1, but the softmax of moe.router.type noisy_top_k over 1 expert is always 1 and the router would learn "
            "nothing from the language-model loss; use 2 or more, or moe.router.type switch");
    require(router.type != RouterType::kThreshold || !router.normalize || moe.top_k > 1,
            {"moe.router.normalize", "moe.top_k"},
            "is true, but with moe.top_k 1 most tokens' only weight would be 1 and the router would learn nothing from "
            "the language-model loss; use false");
    const bool fills = router.type == RouterType::kExpertChoice || router.type == RouterType::kSoftMoe ||
                       router.type == RouterType::kSoftMixture;
    require(!fills || (!moe.capacity_factor && !moe.eval_capacity_factor),
            {moe.capacity_factor ? "moe.capacity_factor" : "moe.eval_capacity_factor", "moe.router.type"},
            "has no meaning with moe.router.type " + router_name(router.type) +
                ", whose experts get an even share by construction; moe.top_k sets its size");
    require(router.type != RouterType::kSoftMoe || router.init_scale != 0.0,
            {"moe.router.init_scale", "moe.router.type"},
            "is 0, but the slots of moe.router.type soft_moe would then be and stay alike; write a number above 0");
    if (router.max_experts) {
      require(*router.max_experts >= moe.top_k && *router.max_experts <= moe.num_experts,
              {"moe.router.max_experts", "moe.top_k", "moe.num_experts"},
              "is " + number(*router.max_experts) + "; it must be from moe.top_k " + number(moe.top_k) +
                  " to moe.num_experts " + number(moe.num_experts));
    }
  }

  void check_competition() {
    const int64_t last = c_.model.num_layers - 1;
    const bool compete = c_.moe->router.error == ExpertError::kCompetitive;
    require(!compete || is_moe_layer(c_, last), {"moe.router.error", "moe.layer_freq", "moe.first_k_dense"},
            "is competitive, but the last layer has no experts that could compete; give it some (moe.layer_freq) or "
            "use cooperative");
    require(!compete || !is_depth_layer(c_, last), {"moe.router.error", "mixture_of_depths.layer_freq"},
            "is competitive, but with mixture_of_depths some tokens skip the last layer, whose experts compete; leave "
            "that layer out of mixture_of_depths.layer_freq or use cooperative");
  }

  void check_groups(const MoeConfig& moe) {
    const RouterConfig& router = moe.router;
    const int64_t groups = router.num_groups;
    const bool hierarchical = router.type == RouterType::kHierarchical;
    require(!hierarchical || groups > 1, {"moe.router.num_groups", "moe.router.type"},
            "is " + number(groups) + "; moe.router.type hierarchical needs at least 2 groups");
    require(moe.num_experts % groups == 0, {"moe.router.num_groups", "moe.num_experts"},
            "is " + number(groups) + ", which does not divide moe.num_experts " + number(moe.num_experts));
    require(router.top_groups <= groups, {"moe.router.top_groups", "moe.router.num_groups"},
            "is " + number(router.top_groups) + ", more than moe.router.num_groups " + number(groups));
    require(groups > 1 || router.group_score == RouterConfig{}.group_score,
            {"moe.router.group_score", "moe.router.num_groups"},
            "is top_two_sum, but has no effect with moe.router.num_groups 1; give more groups or leave it out");
    if (moe.num_experts % groups != 0 || groups == 1) return;
    const int64_t size = moe.num_experts / groups;
    const int64_t reach = router.top_groups * size;
    require(moe.top_k <= reach, {"moe.top_k", "moe.router.top_groups"},
            "is " + number(moe.top_k) + ", more than the " + number(reach) + " experts of moe.router.top_groups " +
                number(router.top_groups));
    require(!hierarchical || moe.top_k % router.top_groups == 0, {"moe.top_k", "moe.router.top_groups"},
            "is " + number(moe.top_k) + ", which is not a multiple of moe.router.top_groups " +
                number(router.top_groups) + ": every chosen group gives as many experts");
    require(router.group_score != GroupScore::kTopTwoSum || size >= 2,
            {"moe.router.group_score", "moe.router.num_groups"},
            "is top_two_sum, but the groups hold 1 expert each; use max");
    require(router.null_experts == 0, {"moe.router.null_experts", "moe.router.num_groups"},
            "can't be used with groups; leave one of them out");
  }
};

}  // namespace

void check_moe_rules(const RuleSet& rules) {
  MoeRules moe(rules);
  moe.check();
}

}  // namespace switchyard
