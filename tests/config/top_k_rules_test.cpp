// Rules of the keys that top-k routing and Switch have.
#include <gtest/gtest.h>

#include "config/router_keys.h"
#include "tests/config/helpers.h"

namespace switchyard::config_test {
namespace {

std::string router_error(const std::string& moe, const std::string& router) {
  return error_of("moe: {" + moe + ", router: {" + router + "}}");
}

TEST(TopKRules, GroupsDivideTheExpertsAndHoldTheChoices) {
  EXPECT_NE(router_error("num_experts: 8", "num_groups: 3").find("does not divide moe.num_experts 8"),
            std::string::npos);
  EXPECT_NE(router_error("num_experts: 8", "num_groups: 2, top_groups: 3").find("more than moe.router.num_groups 2"),
            std::string::npos);
  EXPECT_NE(router_error("num_experts: 8, top_k: 3", "num_groups: 4").find("more than the 2 experts"),
            std::string::npos);
  EXPECT_NE(router_error("num_experts: 4, top_k: 1", "num_groups: 4, group_score: top_two_sum").find("use max"),
            std::string::npos);
  EXPECT_EQ(router_error("num_experts: 8, top_k: 4", "num_groups: 4, top_groups: 2, group_score: top_two_sum"), "");
}

TEST(TopKRules, KeysWithoutEffectAreRefused) {
  EXPECT_EQ(router_error("num_experts: 8", "bias_rate: 0.01"),
            "c.yaml:1:43: key 'moe.router.bias_rate' is 0.01, but has no effect without moe.router.expert_bias; write "
            "true there or leave it out");
  EXPECT_EQ(router_error("num_experts: 8", "bias_rate: 0.01, expert_bias: true"), "");
  EXPECT_EQ(router_error("num_experts: 8", "group_score: top_two_sum"),
            "c.yaml:1:45: key 'moe.router.group_score' is top_two_sum, but has no effect with moe.router.num_groups 1; "
            "give more groups or leave it out");
}

TEST(TopKRules, NullExpertsGoNeitherWithGroupsNorWithABias) {
  EXPECT_NE(router_error("num_experts: 8", "num_groups: 2, null_experts: 1").find("can't be used with groups"),
            std::string::npos);
  EXPECT_EQ(router_error("num_experts: 8", "expert_bias: true, null_experts: 1"),
            "c.yaml:1:65: key 'moe.router.null_experts' can't be used with moe.router.expert_bias, which does not see "
            "the choices of null experts; leave one of them out");
  EXPECT_EQ(router_error("num_experts: 8", "null_experts: 4, budget_coeff: 0.1"), "");
}

TEST(TopKRules, ARandomSecondExpertNeedsTwoChoices) {
  EXPECT_NE(router_error("top_k: 3", "second_expert: random").find("needs moe.top_k 2"), std::string::npos);
  EXPECT_EQ(router_error("top_k: 2", "second_expert: random"), "");
}

TEST(TopKRules, SigmoidHasNoSoftmaxAfter) {
  EXPECT_NE(router_error("top_k: 2", "score: sigmoid, softmax: after").find("sigmoid has no softmax"),
            std::string::npos);
}

TEST(TopKRules, SwitchHasOneExpertATokenAndKeysOfItsOwn) {
  EXPECT_NE(router_error("top_k: 2", "type: switch").find("sends each token to 1 expert"), std::string::npos);
  EXPECT_NE(router_error("top_k: 1", "type: switch, score: sigmoid").find("has no effect with moe.router.type switch"),
            std::string::npos);
  EXPECT_EQ(router_error("top_k: 1, capacity_factor: 1.25", "type: switch, jitter: 0.01, init_scale: 0.1"), "");
}

TEST(TopKRules, CapacityIsPositive) {
  EXPECT_NE(router_error("top_k: 1, capacity_factor: 0", "type: switch").find("capacity_factor"), std::string::npos);
}

}  // namespace
}  // namespace switchyard::config_test
