#include "model/moe/routers/threshold_router.h"

#include <cmath>

#include "tests/support/router_layer.h"

namespace switchyard::test::threshold_router_test {
namespace {

using torch::Tensor;

std::vector<std::string> keys(const std::string& rule, const std::vector<std::string>& more = {}) {
  std::vector<std::string> all = {"moe.router.type=threshold", "moe.router.rule=" + rule};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

// D = 1 with x = 1: the logits of E = 3 experts are the logarithms of `values`.
RouterOutput hand_routing(const std::string& rule, double threshold, const std::vector<double>& values,
                          bool normalize = true, int64_t max_experts = 3) {
  const auto router = random_router(
      keys(rule, {"moe.num_experts=3", normalize ? "moe.router.normalize=true" : "moe.router.normalize=false",
                  "moe.router.initial_threshold=" + std::to_string(threshold),
                  "moe.router.max_experts=" + std::to_string(max_experts)}),
      1);
  set_parameter(*router, "weight", doubles(values).log().view({3, 1}));
  return router->forward({.x = torch::ones({1, 1}, kF64)});
}

Tensor row(const std::vector<double>& values) { return doubles(values).view({1, -1}); }
Tensor bits(const std::vector<int64_t>& values) { return integers(values).view({1, -1}).to(torch::kBool); }

TEST(ThresholdRouter, TopPByHand) {
  // p = (2/11, 3/11, 6/11), 0.545 and 0.818 after one and two.
  const std::vector<double> values = {2, 3, 6};
  const auto two = hand_routing("top_p", 0.6, values);
  EXPECT_TRUE(identical(two.expert_ids, integers({2, 1, 0}).view({1, 3})));
  EXPECT_TRUE(identical(two.chosen, bits({1, 1, 0})));
  EXPECT_TRUE(close(two.weights, row({2 / 3.0, 1 / 3.0, 0})));
  EXPECT_TRUE(close(two.probabilities, row({2 / 11.0, 3 / 11.0, 6 / 11.0})));
  EXPECT_TRUE(close(hand_routing("top_p", 0.6, values, false).weights, row({6 / 11.0, 3 / 11.0, 0})));
  EXPECT_TRUE(identical(hand_routing("top_p", 0.5, values).chosen, bits({1, 0, 0})));
  EXPECT_TRUE(identical(hand_routing("top_p", 0.9, values).chosen, bits({1, 1, 1})));
  // No more than max_experts, even when they do not reach the threshold.
  const auto most = hand_routing("top_p", 0.9, values, false, 2);
  EXPECT_TRUE(identical(most.expert_ids, integers({2, 1}).view({1, 2})));
  EXPECT_TRUE(identical(most.chosen, bits({1, 1})));
}

TEST(ThresholdRouter, ScoresByHand) {
  // s = (1/2, 3/4, 1/4).
  const std::vector<double> values = {1, 3, 1 / 3.0};
  const auto two = hand_routing("score", 0.4, values);
  EXPECT_TRUE(identical(two.expert_ids, integers({1, 0, 2}).view({1, 3})));
  EXPECT_TRUE(identical(two.chosen, bits({1, 1, 0})));
  EXPECT_TRUE(close(two.weights, row({0.6, 0.4, 0})));
  EXPECT_TRUE(close(two.probabilities, row({1 / 3.0, 1 / 2.0, 1 / 6.0})));
  EXPECT_TRUE(close(hand_routing("score", 0.4, values, false).weights, row({0.75, 0.5, 0})));
  // At least one, even where none is above the threshold.
  const auto one = hand_routing("score", 0.9, values, false);
  EXPECT_TRUE(identical(one.chosen, bits({1, 0, 0})));
  EXPECT_TRUE(close(one.weights, row({0.75, 0, 0})));
}

TEST(ThresholdRouter, CountsAreObserved) {
  for (const std::string rule : {"top_p", "score"}) {
    const auto router = random_router(keys(rule, {"moe.num_experts=6"}), 4);
    const auto routing = router->forward({.x = random_tensor({50, 4}, 9)});
    const Tensor count = routing.chosen.sum(1).to(kF64);
    EXPECT_TRUE(identical(routing.smooth_experts, count));
    EXPECT_TRUE(close(routing.observed, count.mean().view({1})));
    EXPECT_GT(count.max().item<double>(), count.min().item<double>());
    EXPECT_TRUE(identical(tokens_per_expert(routing).sum(), routing.chosen.sum()));
  }
}

TEST(ThresholdRouter, GradientsOfTheWeights) {
  for (const std::string rule : {"top_p", "score"}) {
    for (const std::string normalize : {"true", "false"}) {
      const auto router = random_router(keys(rule, {"moe.num_experts=5", "moe.router.normalize=" + normalize}), 3);
      const auto x = random_tensor({6, 3}, 1).requires_grad_();
      const auto first = router->forward({.x = x});
      const auto probe = random_tensor({6, 5}, 2);
      const auto loss = [&] {
        const auto routing = router->forward({.x = x});
        EXPECT_TRUE(torch::equal(routing.chosen, first.chosen) && torch::equal(routing.expert_ids, first.expert_ids));
        return (routing.weights * probe).sum() + routing.probabilities.square().sum() + routing.logits.pow(3).sum();
      };
      EXPECT_TRUE(gradients_match(loss, {{"x", x}, {"weight", router->parameters()[0]}})) << rule << normalize;
    }
  }
}

// 1 + the sum over all candidates but the best of sigmoid(margin / 0.1), a token and a candidate at a time.
Tensor naive_smooth_experts(const Tensor& x, const Tensor& weight, bool top_p, double threshold) {
  std::vector<Tensor> experts;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const Tensor logits = torch::mv(weight, x[t]);
    const Tensor scores = std::get<0>((top_p ? torch::softmax(logits, 0) : torch::sigmoid(logits)).sort(0, true));
    Tensor sum = torch::ones({}, kF64);
    for (int64_t i = 1; i < scores.size(0); ++i) {
      const Tensor margin = top_p ? threshold - scores.slice(0, 0, i).sum() : scores[i] - threshold;
      sum = sum + torch::sigmoid(margin / 0.1);
    }
    experts.push_back(sum);
  }
  return torch::stack(experts);
}

TEST(ThresholdRouter, GradientOfTheNumberOfExperts) {
  for (const std::string rule : {"top_p", "score"}) {
    const auto router = random_router(keys(rule, {"moe.num_experts=5", "moe.router.initial_threshold=0.6"}), 3);
    const auto x = random_tensor({6, 3}, 1).requires_grad_();
    const Tensor weight = router->parameters()[0];
    const auto probe = random_tensor({6}, 2);
    const auto naive = [&] { return (naive_smooth_experts(x, weight, rule == "top_p", 0.6) * probe).sum(); };
    EXPECT_TRUE(gradients_match(naive, {{"x", x}, {"weight", weight}}));
    // The buffer is set in float32.
    router->named_buffers()["threshold"].fill_(0.6);
    const auto expected = torch::autograd::grad({naive()}, {x, weight});
    const auto actual = torch::autograd::grad({(router->forward({.x = x}).smooth_experts * probe).sum()}, {x, weight});
    EXPECT_TRUE(close(actual[0], expected[0]));
    EXPECT_TRUE(close(actual[1], expected[1]));
  }
}

double threshold_of(const Router& router) { return router.named_buffers()["threshold"].item<double>(); }

TEST(ThresholdRouter, StepOfTheThresholdByHand) {
  const auto moved = [](const std::string& rule, double observed, const std::string& rate = "0.25") {
    auto router = random_router(keys(rule, {"moe.router.threshold_rate=" + rate}), 3);
    router->after_step(torch::zeros({4}, kF64), doubles({observed}));
    return threshold_of(*router);
  };
  // Target 2. A larger sum to reach takes more experts, a higher line leaves fewer.
  EXPECT_DOUBLE_EQ(moved("top_p", 3), 0.5 - 0.25 * 0.5);
  EXPECT_DOUBLE_EQ(moved("score", 3), 0.5 + 0.25 * 0.5);
  EXPECT_DOUBLE_EQ(moved("top_p", 1), 0.5 + 0.25 * 0.5);
  EXPECT_DOUBLE_EQ(moved("top_p", 2), 0.5);
  EXPECT_DOUBLE_EQ(moved("top_p", 100), 0.25);    // at most one rate
  EXPECT_DOUBLE_EQ(moved("top_p", 100, "1"), 0);  // never outside [0, 1]
  EXPECT_DOUBLE_EQ(moved("score", 100, "1"), 1);
  EXPECT_DOUBLE_EQ(moved("score", 100, "0"), 0.5);
}

TEST(ThresholdRouter, TheMeanNumberOfExpertsFollowsTheTarget) {
  const torch::NoGradGuard no_grad;
  for (const std::string rule : {"top_p", "score"}) {
    for (const int64_t target : {2, 3}) {
      auto router = random_router(
          keys(rule, {"moe.num_experts=8", "moe.top_k=" + std::to_string(target), "moe.router.threshold_rate=0.02"}),
          6);
      const auto mean = [&](uint64_t seed) {
        return router->forward({.x = random_tensor({256, 6}, seed)}).observed.item<double>();
      };
      const double before = mean(1);
      for (uint64_t step = 0; step < 300; ++step) {
        const auto routing = router->forward({.x = random_tensor({256, 6}, 100 + step)});
        router->after_step(tokens_per_expert(routing).to(kF64), routing.observed);
      }
      EXPECT_NEAR(mean(1), static_cast<double>(target), 0.2) << rule;
      EXPECT_GT(std::abs(before - static_cast<double>(target)), 0.3) << rule << ": nothing to follow";
    }
  }
}

TEST(ThresholdRouter, ThresholdsAreStateThatCheckpointsHold) {
  Transformer model = make_model(tiny_moe_config(keys("top_p", {"moe.router.initial_threshold=0.25"})), kF32);
  const auto buffers = model->named_buffers();
  ASSERT_TRUE(buffers.contains("layers.1.moe.router.threshold"));
  EXPECT_EQ(buffers["layers.1.moe.router.threshold"].item<double>(), 0.25);
  std::vector<Tensor> observed;
  for (const auto& routing : model->forward(random_tokens(model->config(), 2, 6)).routers) {
    observed.push_back(routing.observed + 2);  // above the target of 2
  }
  model->after_step(torch::zeros({2, 4}, kF64), observed);
  EXPECT_LT(buffers["layers.1.moe.router.threshold"].item<double>(), 0.25);
}

TEST(ThresholdRouter, AllToOneExpert) {
  for (const std::string rule : {"top_p", "score"}) {
    const auto router = random_router(keys(rule, {"moe.num_experts=3"}), 2);
    set_parameter(*router, "weight", doubles({-200, -200, 200, 200, -200, -200}).view({3, 2}));
    const Tensor x = random_tensor({9, 2}, 1).abs() + 0.5;
    const auto routing = router->forward({.x = x});
    EXPECT_TRUE(identical(tokens_per_expert(routing), integers({0, 9, 0})));
    EXPECT_TRUE(close(routing.weights.sum(1), torch::ones({9}, kF64)));
  }
}

TEST(ThresholdRouter, ScoresThatUnderflowStayFinite) {
  // sigmoid(-200) is 0 in float32: still one expert.
  const auto router = random_router(keys("score"), 2);
  set_parameter(*router, "weight", torch::full({4, 2}, -200, kF64));
  router->to(kF32);
  const auto routing = router->forward({.x = torch::ones({3, 2}, kF32)});
  EXPECT_TRUE(routing.chosen.sum(1).eq(1).all().item<bool>());
  EXPECT_TRUE(routing.weights.isfinite().all().item<bool>());
  EXPECT_TRUE(routing.probabilities.isfinite().all().item<bool>());
}

TEST(ThresholdRouter, NanStaysVisible) {
  Tensor x = random_tensor({3, 2}, 1);
  x[1][0].fill_(std::numeric_limits<double>::quiet_NaN());
  for (const std::string rule : {"top_p", "score"}) {
    const auto routing = random_router(keys(rule), 2)->forward({.x = x});
    EXPECT_TRUE(routing.chosen[1][0].item<bool>());
    EXPECT_TRUE(routing.weights[1][0].isnan().item<bool>());
    EXPECT_FALSE(routing.weights[0].isnan().any().item<bool>());
    EXPECT_TRUE(routing.expert_ids.ge(0).logical_and(routing.expert_ids.lt(4)).all().item<bool>());
  }
}

TEST(ThresholdRouter, InALayer) {
  for (const std::string rule : {"top_p", "score"}) {
    EXPECT_TRUE(layer_equals_loop(keys(rule)));
    EXPECT_TRUE(layer_equals_loop(keys(rule, {"moe.router.max_experts=3", "moe.router.normalize=false"})));
    EXPECT_TRUE(layer_equals_loop(keys(rule, {"moe.num_experts=20"})));
    EXPECT_TRUE(layer_equals_loop(keys(rule), 0.5));
    EXPECT_TRUE(layer_equals_loop(keys(rule, {"moe.drop_policy=position"}), 0.5));
    EXPECT_TRUE(layer_takes_no_tokens(keys(rule)));
    EXPECT_TRUE(layer_is_deterministic(keys(rule)));
  }
}

}  // namespace
}  // namespace switchyard::test::threshold_router_test
