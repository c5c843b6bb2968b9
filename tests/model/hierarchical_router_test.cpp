#include "model/moe/routers/hierarchical_router.h"

#include <cmath>

#include "tests/support/router_layer.h"

namespace switchyard::test::hierarchical_router_test {
namespace {

using torch::Tensor;

std::vector<std::string> keys(int64_t experts, int64_t groups, int64_t top_groups, int64_t top_k) {
  const auto text = [](const char* key, int64_t value) { return std::string(key) + std::to_string(value); };
  return {text("moe.num_experts=", experts), text("moe.top_k=", top_k), "moe.router.type=hierarchical",
          text("moe.router.num_groups=", groups), text("moe.router.top_groups=", top_groups)};
}

// One input (D = 1, x = 1), three groups of two: g = (1/2, 1/8, 3/8); inside, e = (3/4, 1/4), (1/2, 1/2), (1/5, 4/5).
RouterOutput hand_routing(int64_t top_groups, int64_t top_k) {
  const auto router = random_router(keys(6, 3, top_groups, top_k), 1);
  set_parameter(*router, "group_weight", doubles({4, 1, 3}).log().view({3, 1}));
  set_parameter(*router, "weight", doubles({3, 1, 5, 5, 1, 4}).log().view({6, 1}));
  return router->forward({.x = torch::ones({1, 1}, kF64)});
}

Tensor row(const std::vector<double>& values) { return doubles(values).view({1, -1}); }

TEST(HierarchicalRouter, ProbabilitiesByHand) {
  const auto routing = hand_routing(2, 2);
  EXPECT_TRUE(close(routing.group_probabilities, row({0.5, 0.125, 0.375})));
  EXPECT_TRUE(close(routing.probabilities, row({0.375, 0.125, 0.0625, 0.0625, 0.075, 0.3})));
  EXPECT_TRUE(close(routing.logits.exp(), row({12, 4, 5, 5, 3, 12})));
  EXPECT_TRUE(identical(routing.group_ids, integers({0, 2}).view({1, 2})));
}

TEST(HierarchicalRouter, WeightsByHand) {
  // Two groups, an expert of each: (4/7, 3/7) times the unchanged 3/4 and 4/5.
  const auto apart = hand_routing(2, 2);
  EXPECT_TRUE(identical(apart.expert_ids, integers({0, 5}).view({1, 2})));
  EXPECT_TRUE(close(apart.weights, row({3 / 7.0, 12 / 35.0})));
  // One group, both of its experts: 1/2 times (3/4, 1/4).
  const auto together = hand_routing(1, 2);
  EXPECT_TRUE(identical(together.expert_ids, integers({0, 1}).view({1, 2})));
  EXPECT_TRUE(close(together.weights, row({0.375, 0.125})));
  // Two groups, both experts of each, sorted by weight over the groups.
  const auto all = hand_routing(2, 4);
  EXPECT_TRUE(identical(all.expert_ids, integers({0, 5, 1, 4}).view({1, 4})));
  EXPECT_TRUE(close(all.weights, row({3 / 7.0, 12 / 35.0, 1 / 7.0, 3 / 35.0})));
  // One expert: its probability as it is.
  EXPECT_TRUE(close(hand_routing(1, 1).weights, row({0.375})));
}

TEST(HierarchicalRouter, EqualsALoopOverTokensAndGroups) {
  const torch::NoGradGuard no_grad;
  const auto router = random_router(keys(12, 4, 2, 4), 5);
  const Tensor x = random_tensor({11, 5}, 20);
  const auto routing = router->forward({.x = x});
  for (int64_t t = 0; t < 11; ++t) {
    const Tensor g = torch::softmax(torch::mv(parameter_of(*router, "group_weight"), x[t]), 0);
    const Tensor logits = torch::mv(parameter_of(*router, "weight"), x[t]).view({4, 3});
    const auto [group_p, group_ids] = g.topk(2);
    Tensor expected = torch::zeros({12}, kF64);
    for (int64_t i = 0; i < 2; ++i) {
      const int64_t group = group_ids[i].item<int64_t>();
      const auto [p, ids] = torch::softmax(logits[group], 0).topk(2);
      for (int64_t k = 0; k < 2; ++k) {
        expected[3 * group + ids[k].item<int64_t>()] = group_p[i] / group_p.sum() * p[k] / p.sum();
      }
    }
    EXPECT_TRUE(close(torch::zeros({12}, kF64).scatter(0, routing.expert_ids[t], routing.weights[t]), expected));
    EXPECT_TRUE(close(routing.probabilities[t], (g.unsqueeze(1) * torch::softmax(logits, 1)).flatten()));
    EXPECT_TRUE(routing.weights[t].slice(0, 0, 3).ge(routing.weights[t].slice(0, 1, 4)).all().item<bool>());
  }
  EXPECT_TRUE(close(routing.weights.sum(1), torch::ones({11}, kF64)));
}

TEST(HierarchicalRouter, Gradients) {
  for (const auto& [top_groups, top_k] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 2}, {2, 2}, {2, 4}}) {
    const auto router = random_router(keys(6, 3, top_groups, top_k), 3);
    const auto x = random_tensor({5, 3}, 30).requires_grad_();
    const auto first = router->forward({.x = x});
    const auto probe = random_tensor(first.weights.sizes(), 2);
    const auto loss = [&] {
      const auto routing = router->forward({.x = x});
      EXPECT_TRUE(torch::equal(routing.expert_ids, first.expert_ids));
      return (routing.weights * probe).sum() + routing.probabilities.square().sum() +
             routing.group_probabilities.pow(3).sum() + 0.1 * routing.logits.pow(3).sum();
    };
    EXPECT_TRUE(gradients_match(loss, {{"x", x},
                                       {"group_weight", parameter_of(*router, "group_weight")},
                                       {"weight", parameter_of(*router, "weight")}}));
  }
}

TEST(HierarchicalRouter, TheLanguageModelLossReachesBothGates) {
  // Also where only one group and one expert of it are chosen.
  const auto router = random_router(keys(4, 2, 1, 1), 3);
  const auto routing = router->forward({.x = random_tensor({5, 3}, 30)});
  for (const auto& gradient : torch::autograd::grad({routing.weights.sum()}, router->parameters())) {
    EXPECT_GT(gradient.abs().max().item<double>(), 1e-3);
  }
}

TEST(HierarchicalRouter, AllToOneGroupAndExpert) {
  const auto router = random_router(keys(6, 3, 1, 1), 2);
  set_parameter(*router, "group_weight", doubles({0, 0, 50, 50, 0, 0}).view({3, 2}));
  set_parameter(*router, "weight", doubles({0, 0, 0, 0, 0, 0, 50, 50, 0, 0, 0, 0}).view({6, 2}));
  const auto routing = router->forward({.x = random_tensor({9, 2}, 1).abs() + 0.1});
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({0, 0, 0, 9, 0, 0})));
  EXPECT_TRUE(routing.group_ids.eq(1).all().item<bool>());
}

TEST(HierarchicalRouter, InALayer) {
  for (const auto& [top_groups, top_k] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 2}, {2, 2}, {2, 4}}) {
    EXPECT_TRUE(layer_equals_loop(keys(6, 3, top_groups, top_k)));
  }
  EXPECT_TRUE(layer_equals_loop(keys(6, 3, 2, 2), 0.5));
  EXPECT_TRUE(layer_takes_no_tokens(keys(6, 3, 2, 2)));
  EXPECT_TRUE(layer_is_deterministic(keys(6, 3, 2, 4)));
}

}  // namespace
}  // namespace switchyard::test::hierarchical_router_test
