#include "model/moe/routers/quantile_router.h"

#include "tests/support/moe_by_tokens.h"

namespace switchyard::test::quantile_router_test {
namespace {

std::vector<std::string> with(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), "moe.router=quantile");
  return overrides;
}

// Logits of five tokens for two experts; expert 0 has the larger one at all of them.
RouterInput hand_input() { return {.x = doubles({5, 0, 4, 3, 3, 1, 2, 0, 1, 0.5}).view({5, 2})}; }

TEST(QuantileRouter, ByHand) {
  // The medians are 3 and 0.5. Less these: (2, -0.5), (1, 2.5), (0, 0.5), (-1, -0.5), (-2, 0).
  const auto routing = identity_router(with({"moe.top_k=1"}), 2)->forward(hand_input());
  EXPECT_TRUE(close(routing.observed, doubles({3, 0.5})));
  EXPECT_TRUE(identical(routing.expert_ids, integers({0, 1, 1, 1, 1}).view({5, 1})));
  // A single weight is the probability by the logits as they are.
  const auto expected = torch::sigmoid(doubles({5, -1, -2, -2, -0.5})).view({5, 1});
  EXPECT_TRUE(close(routing.weights, expected));
}

TEST(QuantileRouter, QuantilesBetweenTokensByHand) {
  // 1 - 2/3 of the way through 0, 3, 6, 9 (that is place 1) and through 0, 1, 4 (place 2/3).
  const auto router = identity_router(with({"moe.top_k=2"}), 3);
  const auto columns = torch::stack({doubles({9, 0, 6, 3}), doubles({0, 3, 6, 9}), doubles({6, 3, 0, 9})}, 1);
  EXPECT_TRUE(close(router->forward({.x = columns}).observed, doubles({3, 3, 3})));
  const auto short_columns = torch::stack({doubles({4, 0, 1}), doubles({0, 1, 4}), doubles({2, 2, 2})}, 1);
  EXPECT_TRUE(close(router->forward({.x = short_columns}).observed, doubles({2 / 3.0, 2 / 3.0, 2})));
  const auto one = router->forward({.x = doubles({1, 2, 3}).view({1, 3})});
  EXPECT_TRUE(identical(one.expert_ids, integers({0, 1}).view({1, 2})));  // each is its own quantile: a tie
  EXPECT_TRUE(close(one.weights, torch::softmax(doubles({1, 2}), 0).view({1, 2})));
}

// One expert's logits are far above all others'.
RouterInput lopsided(int64_t tokens, uint64_t seed) {
  RouterInput input = random_input(1, tokens, seed, 4);
  input.x.select(1, 2).add_(3);
  input.x.select(1, 0).mul_(0.7);
  return input;
}

TEST(QuantileRouter, BalancesWhatTopKDoesNot) {
  for (const char* top_k : {"moe.top_k=1", "moe.top_k=2"}) {
    const auto router = identity_router(with({top_k, "moe.router.momentum=0.9"}), 4);
    const auto plain = identity_router({top_k}, 4);
    EXPECT_GT(violation(plain->forward(lopsided(512, 1))), 0.8);
    EXPECT_LT(violation(router->forward(lopsided(512, 1))), 0.35);
    for (uint64_t seed = 2; seed < 12; ++seed) router->after_step({}, router->forward(lopsided(512, seed)).observed);
    router->eval();
    EXPECT_LT(violation(router->forward(lopsided(512, 1))), 0.35);
    EXPECT_FALSE(router->forward(lopsided(512, 1)).observed.defined());
  }
}

TEST(QuantileRouter, EvaluationUsesTheRunningMeanByHand) {
  const auto router = identity_router(with({"moe.top_k=1", "moe.router.momentum=0.5"}), 2);
  router->eval();
  EXPECT_TRUE(identical(router->forward(hand_input()).expert_ids, torch::zeros({5, 1}, torch::kInt64)));
  router->after_step({}, doubles({3, 0.5}));
  EXPECT_TRUE(identical(router->forward(hand_input()).expert_ids, integers({0, 1, 1, 1, 1}).view({5, 1})));
  // (0.25 (3, 0.5) + 0.5 (0.75, -0.5)) / 0.75 = (1.5, -1 / 6).
  router->after_step({}, doubles({0.75, -0.5}));
  EXPECT_TRUE(identical(router->forward(hand_input()).expert_ids, integers({0, 1, 0, 0, 1}).view({5, 1})));
}

TEST(QuantileRouter, Gradients) {
  for (const char* top_k : {"moe.top_k=1", "moe.top_k=2"}) {
    EXPECT_FALSE(expect_gradients_of_router(with({top_k})).observed.requires_grad());
  }
}

TEST(QuantileRouter, LayerEqualsALoopOverTokens) {
  expect_layer_by_tokens(random_moe_layer(with({})), random_input(2, 9));
  expect_layer_by_tokens(random_moe_layer(with({"moe.num_experts=7", "moe.top_k=3"})), random_input(2, 9));
  expect_layer_by_tokens(random_moe_layer(with({"moe.top_k=1", "moe.num_shared_experts=1"})), random_input(2, 9));
  expect_layer_by_tokens(random_moe_layer(with({})), random_input(2, 9), 0.5);
}

TEST(QuantileRouter, EqualTokensAllGoToTheSameExperts) {
  const auto routing = random_router(with({}), 8)->forward({.x = torch::ones({9, 8}, kF64)});
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({9, 9, 0, 0})));
}

TEST(QuantileRouter, EmptyBatch) { expect_empty_batch_works(with({})); }

}  // namespace
}  // namespace switchyard::test::quantile_router_test
