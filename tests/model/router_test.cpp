#include "model/moe/router.h"

#include <cmath>
#include <limits>

#include "tests/support/models.h"

namespace switchyard::test::router_test {
namespace {

// A router over D = 2 whose E = 3 logits are x0, x1 and x0 + x1.
std::shared_ptr<Router> hand_router(const std::vector<std::string>& overrides, torch::ScalarType type = kF64) {
  std::vector<std::string> all = {"moe.num_experts=3"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  auto router = make_router(*tiny_moe_config(all).moe, 2, 0);
  router->to(type);
  const torch::NoGradGuard no_grad;
  router->parameters()[0].copy_(doubles({1, 0, 0, 1, 1, 1}).view({3, 2}));
  return router;
}

// Logits ln 2, ln 3, ln 6: probabilities 2/11, 3/11, 6/11.
torch::Tensor hand_input() { return doubles({std::log(2.0), std::log(3.0)}).view({1, 2}); }

torch::Tensor row(const std::vector<double>& values) { return doubles(values).view({1, -1}); }

TEST(TopKRouter, LogitsProbabilitiesAndChoicesByHand) {
  const auto routing = hand_router({})->forward({.x = hand_input()});
  EXPECT_TRUE(close(routing.logits, row({std::log(2.0), std::log(3.0), std::log(6.0)})));
  EXPECT_TRUE(close(routing.probabilities, row({2 / 11.0, 3 / 11.0, 6 / 11.0})));
  EXPECT_TRUE(identical(routing.expert_ids, integers({2, 1}).view({1, 2})));
  EXPECT_FALSE(routing.kept.defined());
}

TEST(TopKRouter, WeightsByHand) {
  const auto weights = [](const std::vector<std::string>& overrides) {
    return hand_router(overrides)->forward({.x = hand_input()}).weights;
  };
  EXPECT_TRUE(close(weights({"moe.router.softmax=before", "moe.router.normalize=false"}), row({6 / 11.0, 3 / 11.0})));
  EXPECT_TRUE(close(weights({"moe.router.softmax=before", "moe.router.normalize=true"}), row({2 / 3.0, 1 / 3.0})));
  EXPECT_TRUE(close(weights({"moe.router.softmax=after"}), row({2 / 3.0, 1 / 3.0})));
  EXPECT_TRUE(close(weights({"moe.top_k=1", "moe.router.normalize=false"}), row({6 / 11.0})));
  // Normalising a single choice would leave the constant 1.
  EXPECT_TRUE(close(weights({"moe.top_k=1", "moe.router.normalize=true"}), row({6 / 11.0})));
}

TEST(TopKRouter, GradientsOfTheWeights) {
  const std::vector<std::vector<std::string>> variants = {{"moe.router.softmax=before", "moe.router.normalize=false"},
                                                          {"moe.router.softmax=before", "moe.router.normalize=true"},
                                                          {"moe.router.softmax=after"},
                                                          {"moe.top_k=1", "moe.router.normalize=false"}};
  for (const auto& variant : variants) {
    const auto router = hand_router(variant);
    const auto x = random_tensor({5, 2}, 1).requires_grad_();
    const auto first = router->forward({.x = x});
    const auto probe = random_tensor(first.weights.sizes(), 2);
    const auto loss = [&] {
      const auto routing = router->forward({.x = x});
      EXPECT_TRUE(torch::equal(routing.expert_ids, first.expert_ids));
      return (routing.weights * probe).sum() + routing.probabilities.square().sum() + routing.logits.pow(3).sum();
    };
    EXPECT_TRUE(gradients_match(loss, {{"x", x}, {"weight", router->parameters()[0]}}));
  }
}

TEST(TopKRouter, ComputesInFloat32ForBfloat16) {
  const auto router = hand_router({}, kF32);
  const auto x = random_tensor({9, 2}, 1, kBf16);
  const auto routing = router->forward({.x = x});
  const auto wide = router->forward({.x = x.to(kF32)});
  EXPECT_EQ(routing.weights.scalar_type(), kF32);
  EXPECT_TRUE(identical(routing.logits, wide.logits));
  EXPECT_TRUE(identical(routing.weights, wide.weights));
}

TEST(TopKRouter, JitterOnlyInTrainingAndWithinItsRange) {
  const auto router = hand_router({"moe.router.jitter=0.1"});
  const auto x = torch::ones({4000, 2}, kF64);
  torch::manual_seed(3);
  const auto logits = router->forward({.x = x}).logits.narrow(1, 0, 2);
  EXPECT_GE(logits.min().item<double>(), 0.9);
  EXPECT_LE(logits.max().item<double>(), 1.1);
  EXPECT_LT(logits.min().item<double>(), 0.901);
  EXPECT_GT(logits.max().item<double>(), 1.099);
  EXPECT_NEAR(logits.mean().item<double>(), 1.0, 0.005);
  router->eval();
  EXPECT_TRUE(router->forward({.x = x}).logits.narrow(1, 0, 2).eq(1).all().item<bool>());
}

TEST(TopKRouter, NanStaysVisibleAndChoicesValid) {
  const auto router = hand_router({});
  torch::Tensor x = random_tensor({3, 2}, 1);
  x[1][0].fill_(std::numeric_limits<double>::quiet_NaN());
  const auto routing = router->forward({.x = x});
  EXPECT_TRUE(routing.weights[1].isnan().all().item<bool>());
  EXPECT_FALSE(routing.weights[0].isnan().any().item<bool>());
  EXPECT_TRUE(routing.expert_ids.ge(0).logical_and(routing.expert_ids.lt(3)).all().item<bool>());
  EXPECT_NE(routing.expert_ids[1][0].item<int64_t>(), routing.expert_ids[1][1].item<int64_t>());
}

TEST(TokensPerExpert, ByHand) {
  RouterOutput routing;
  routing.logits = torch::zeros({4, 4});
  routing.expert_ids = integers({0, 2, 2, 0, 2, 1, 0, 2}).view({4, 2});
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({3, 1, 4, 0})));
  EXPECT_TRUE(identical(tokens_per_expert_and_sequence(routing, 2), integers({2, 0, 2, 0, 1, 1, 2, 0}).view({2, 4})));
  routing.chosen = integers({1, 1, 0, 1, 1, 1, 0, 1}).view({4, 2}).to(torch::kBool);
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({2, 1, 3, 0})));
  routing.chosen = torch::Tensor();
  routing.expert_ids = with_gaps(routing.expert_ids);  // as a sort on another device leaves them
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({3, 1, 4, 0})));
}

TEST(Capacity, PlacesAreRoundedUp) {
  EXPECT_EQ(expert_capacity(100, 2, 8, 1.0), 25);
  EXPECT_EQ(expert_capacity(101, 2, 8, 1.0), 26);    // 25.25
  EXPECT_EQ(expert_capacity(10, 1, 1, 1.1), 11);     // 1.1 * 10 is a little above 11 in binary
  EXPECT_EQ(expert_capacity(1, 1, 64, 0.5), 1);      // never none
  EXPECT_EQ(expert_capacity(100, 1.5, 8, 1.0), 19);  // 18.75
}

// Every expert takes 2 of these 8 choices: 0.75 * 2 * 4 / 3.
const torch::Tensor& hand_ids() {
  static const torch::Tensor ids = integers({0, 1, 0, 1, 0, 2, 1, 0}).view({4, 2});
  return ids;
}

RouterOutput routing_of(const torch::Tensor& ids, const torch::Tensor& weights, const torch::Tensor& chosen = {}) {
  RouterOutput routing;
  routing.expert_ids = ids;
  routing.weights = weights;
  routing.chosen = chosen;
  return routing;
}

torch::Tensor kept(const torch::Tensor& weights, DropPolicy policy) {
  return keep_within_capacity(routing_of(hand_ids(), weights), 3, 2, 0.75, policy).to(torch::kInt64);
}

TEST(Capacity, PositionPolicyByHand) {
  // First choices: tokens 0 and 1 fill expert 0, token 2 is too late, token 3 gets into expert 1. Second choices: token
  // 0 fills expert 1, token 1 is too late, token 2 gets into expert 2, token 3 finds expert 0 full.
  const auto weights = doubles({0.6, 0.4, 0.55, 0.45, 0.9, 0.1, 0.7, 0.3}).view({4, 2});
  EXPECT_TRUE(identical(kept(weights, DropPolicy::kPosition), integers({1, 1, 1, 0, 0, 1, 1, 0}).view({4, 2})));
}

TEST(Capacity, ProbabilityPolicyByHand) {
  // Expert 0: 0.6, 0.55, 0.9, 0.3 -> tokens 2 and 0. Expert 1: 0.4, 0.45, 0.7 -> tokens 3 and 1. Expert 2: token 2.
  const auto weights = doubles({0.6, 0.4, 0.55, 0.45, 0.9, 0.1, 0.7, 0.3}).view({4, 2});
  EXPECT_TRUE(identical(kept(weights, DropPolicy::kProbability), integers({1, 0, 0, 1, 1, 1, 1, 0}).view({4, 2})));
}

TEST(Capacity, WhatIsNotChosenTakesNoPlace) {
  // As by position above, without token 0's choices: token 2 now gets into expert 0, token 1 into expert 1.
  const auto chosen = integers({0, 0, 1, 1, 1, 1, 1, 1}).view({4, 2}).to(torch::kBool);
  const auto weights = torch::full({4, 2}, 0.5, kF64);
  const auto fits = keep_within_capacity(routing_of(hand_ids(), weights, chosen), 3, 2, 0.75, DropPolicy::kPosition);
  EXPECT_TRUE(identical(fits.to(torch::kInt64), integers({0, 0, 1, 1, 1, 1, 1, 0}).view({4, 2})));
}

TEST(Capacity, TokensThatAreNotActiveGiveNoPlaces) {
  // Two of the four tokens: one place each, 0.75 * 2 * 2 / 3. Token 2 takes those of experts 0 and 2, token 3 that
  // of 1.
  const auto active = integers({0, 0, 1, 1}).to(torch::kBool);
  const auto chosen = active.unsqueeze(1).expand({4, 2});
  const auto routing = routing_of(hand_ids(), torch::full({4, 2}, 0.5, kF64), chosen);
  const auto fits = keep_within_capacity(routing, 3, 2, 0.75, DropPolicy::kPosition, active);
  EXPECT_TRUE(identical(fits.to(torch::kInt64), integers({0, 0, 0, 0, 1, 1, 1, 0}).view({4, 2})));
}

TEST(Capacity, EqualWeightsFallBackToPosition) {
  const auto weights = torch::full({4, 2}, 0.5, kF64);
  EXPECT_TRUE(identical(kept(weights, DropPolicy::kProbability), kept(weights, DropPolicy::kPosition)));
}

TEST(Capacity, NoExpertTakesMoreThanItsPlacesAndNoPlaceIsLeft) {
  const auto ids = std::get<1>(random_tensor({64, 7}, 1).topk(3));
  const auto weights = random_tensor({64, 3}, 2);
  for (const auto policy : {DropPolicy::kPosition, DropPolicy::kProbability}) {
    const auto fits = keep_within_capacity(routing_of(ids, weights), 7, 3, 0.8, policy);
    const int64_t places = expert_capacity(64, 3, 7, 0.8);
    for (int64_t expert = 0; expert < 7; ++expert) {
      const int64_t wanted = ids.eq(expert).sum().item<int64_t>();
      EXPECT_EQ(fits.logical_and(ids.eq(expert)).sum().item<int64_t>(), std::min(wanted, places));
    }
  }
}

}  // namespace
}  // namespace switchyard::test::router_test
