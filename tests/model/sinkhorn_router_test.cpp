#include "model/moe/routers/sinkhorn_router.h"

#include "tests/support/moe_by_tokens.h"

namespace switchyard::test::sinkhorn_router_test {
namespace {

std::vector<std::string> with(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), "moe.router=sinkhorn");
  return overrides;
}

RouterInput hand_input() { return {.x = doubles({4, 2, 3, 6}).log().view({2, 2})}; }

TEST(SinkhornRouter, OneIterationByHand) {
  // Rows 4 2 and 3 1 with sum 1: 2/3 1/3 and 3/4 1/4. Columns 17/12 and 7/12 scale that to 8/17 4/7 and 9/17 3/7: token
  // 0 goes to expert 1 though its logit is smaller.
  const RouterInput input{.x = doubles({4, 2, 3, 1}).log().view({2, 2})};
  const auto router = identity_router(with({"moe.top_k=1", "moe.router.sinkhorn_iterations=1"}), 2);
  const auto routing = router->forward(input);
  EXPECT_TRUE(identical(routing.expert_ids, integers({1, 0}).view({2, 1})));
  // sigmoid(ln a) = a / (1 + a).
  EXPECT_TRUE(close(routing.weights, doubles({2 / 3.0, 3 / 4.0}).view({2, 1})));
  EXPECT_TRUE(close(routing.probabilities, doubles({2 / 3.0, 1 / 3.0, 3 / 4.0, 1 / 4.0}).view({2, 2})));
  router->eval();
  EXPECT_TRUE(identical(router->forward(input).expert_ids, integers({0, 0}).view({2, 1})));
  EXPECT_TRUE(close(router->forward(input).weights, doubles({4 / 5.0, 3 / 4.0}).view({2, 1})));
}

TEST(SinkhornRouter, WeightsOfSeveralAreProbabilitiesByHand) {
  const auto routing = identity_router(with({"moe.top_k=2"}), 2)->forward(hand_input());
  EXPECT_TRUE(identical(routing.expert_ids, integers({0, 1, 1, 0}).view({2, 2})));
  EXPECT_TRUE(close(routing.weights, doubles({2 / 3.0, 1 / 3.0, 2 / 3.0, 1 / 3.0}).view({2, 2})));
}

// The matrix itself, scaled row by row and column by column.
torch::Tensor naive_sinkhorn(const torch::Tensor& logits, int64_t iterations) {
  torch::Tensor matrix = logits.exp();
  for (int64_t i = 0; i < iterations; ++i) {
    for (int64_t t = 0; t < matrix.size(0); ++t) matrix[t] /= matrix[t].sum() * matrix.size(0);
    for (int64_t e = 0; e < matrix.size(1); ++e) matrix.select(1, e).div_(matrix.select(1, e).sum() * matrix.size(1));
  }
  return matrix;
}

TEST(SinkhornRouter, SelectsByTheScaledMatrix) {
  for (const int64_t iterations : {1, 2, 8}) {
    const auto router = identity_router(with({"moe.router.sinkhorn_iterations=" + std::to_string(iterations)}), 5);
    const auto logits = 2 * random_tensor({33, 5}, 4);
    const auto expected = std::get<1>(naive_sinkhorn(logits, iterations).topk(2, 1));
    EXPECT_TRUE(identical(router->forward({.x = logits}).expert_ids, expected));
  }
}

TEST(SinkhornRouter, BalancesWhatTopKDoesNot) {
  for (const char* top_k : {"moe.top_k=1", "moe.top_k=2"}) {
    RouterInput input = random_input(1, 512, 1, 4);
    input.x.select(1, 2).add_(3);
    const auto router = identity_router(with({top_k}), 4);
    EXPECT_LT(violation(router->forward(input)), 0.15);
    router->eval();
    EXPECT_GT(violation(router->forward(input)), 0.8);
  }
}

TEST(SinkhornRouter, ManyIterationsOfLargeLogitsStayFinite) {
  const auto router = identity_router(with({"moe.router.sinkhorn_iterations=100"}), 4);
  router->to(kF32);
  const auto routing = router->forward({.x = 200 * random_tensor({64, 4}, 1, kF32)});
  EXPECT_TRUE(routing.weights.isfinite().all().item<bool>());
  EXPECT_LT(violation(routing), 0.5);  // exp(200) is infinite in float32
}

TEST(SinkhornRouter, Gradients) {
  for (const char* top_k : {"moe.top_k=1", "moe.top_k=2"}) {
    expect_gradients_of_router(with({top_k}));
  }
}

TEST(SinkhornRouter, LayerEqualsALoopOverTokens) {
  expect_layer_by_tokens(random_moe_layer(with({})), random_input(2, 9));
  expect_layer_by_tokens(random_moe_layer(with({"moe.num_experts=7", "moe.top_k=3"})), random_input(2, 9));
  expect_layer_by_tokens(random_moe_layer(with({"moe.top_k=1", "moe.num_shared_experts=1"})), random_input(2, 9));
  expect_layer_by_tokens(random_moe_layer(with({})), random_input(2, 9), 0.5);
}

TEST(SinkhornRouter, EqualTokensAllGoToTheSameExperts) {
  const auto routing = random_router(with({}), 8)->forward({.x = torch::ones({9, 8}, kF64)});
  EXPECT_EQ(tokens_per_expert(routing).eq(9).sum().item<int64_t>(), 2);
}

TEST(SinkhornRouter, EmptyBatch) { expect_empty_batch_works(with({})); }

}  // namespace
}  // namespace switchyard::test::sinkhorn_router_test
