#include "model/moe/moe_layer.h"

#include "tests/support/router_layer.h"

namespace switchyard::test::moe_layer_test {
namespace {

constexpr int64_t kHidden = 8;

void expect_naive(const std::vector<std::string>& overrides, std::optional<double> capacity_factor, int64_t dropped,
                  int64_t tokens = 13) {
  const torch::NoGradGuard no_grad;
  MoeLayer layer = random_moe_layer(overrides);
  const auto x = random_tensor({tokens, kHidden}, 20);
  LocalDispatcher dispatcher;
  auto [y, routing] = layer->forward({.x = x}, dispatcher, capacity_factor);
  EXPECT_TRUE(close(y, naive_moe(*layer, x, routing)));
  if (dropped > 0) {
    EXPECT_GE(routing.kept.logical_not().sum().item<int64_t>(), dropped);
  }
}

TEST(MoeLayer, EqualsALoopOverTokens) {
  expect_naive({}, std::nullopt, 0);
  expect_naive({"moe.num_experts=7", "moe.top_k=3", "moe.router.softmax=after"}, std::nullopt, 0);
  expect_naive({"moe.top_k=1", "moe.router.normalize=false"}, std::nullopt, 0);
  expect_naive({"moe.num_shared_experts=2"}, std::nullopt, 0);
  expect_naive({"moe.top_k=4"}, std::nullopt, 0);
  expect_naive({}, std::nullopt, 0, /*tokens=*/100);  // with padding between the experts
}

TEST(MoeLayer, EqualsALoopOverTokensWithDrops) {
  expect_naive({"moe.drop_policy=probability"}, 0.5, 10);
  expect_naive({"moe.drop_policy=position", "moe.num_shared_experts=1"}, 0.5, 10);
}

TEST(MoeLayer, SharedExpertsAreSumsOfSeparateOnes) {
  // Two shared experts of width 5 side by side: rows 0-4 and 5-9 of the gate, then of the up projection.
  const torch::NoGradGuard no_grad;
  MoeLayer layer = random_moe_layer({"moe.num_shared_experts=2"});
  const auto gate_up = parameter_of(*layer, "shared_experts.gate_up_proj").view({2, 2, 5, kHidden});
  const auto down = parameter_of(*layer, "shared_experts.down_proj").view({kHidden, 2, 5});
  const auto x = random_tensor({1, kHidden}, 20);
  LocalDispatcher dispatcher;
  const auto with = layer->forward({.x = x}, dispatcher, std::nullopt).y;
  parameter_of(*layer, "shared_experts.down_proj").zero_();
  const auto without = layer->forward({.x = x}, dispatcher, std::nullopt).y;
  const auto fresh = random_moe_layer({"moe.num_shared_experts=2"});
  const auto fresh_down = parameter_of(*fresh, "shared_experts.down_proj").view({kHidden, 2, 5});
  torch::Tensor sum = torch::zeros({kHidden}, kF64);
  for (int64_t i = 0; i < 2; ++i) {
    sum += naive_expert(x[0], gate_up.select(1, i).flatten(0, 1), fresh_down.select(1, i));
  }
  EXPECT_TRUE(close(with - without, sum.unsqueeze(0)));
}

// All tokens go to expert 2: its row of the router is the sum of the inputs' direction.
MoeLayer one_sided_layer() {
  MoeLayer layer = random_moe_layer({"moe.top_k=1", "moe.router.normalize=false"});
  const torch::NoGradGuard no_grad;
  auto weight = parameter_of(*layer, "router.weight");
  weight.mul_(0.01);
  weight[2].fill_(1);
  return layer;
}

TEST(MoeLayer, AllTokensOnOneExpert) {
  MoeLayer layer = one_sided_layer();
  const auto x = (random_tensor({9, kHidden}, 20).abs() + 0.1).requires_grad_();
  LocalDispatcher dispatcher;
  auto [y, routing] = layer->forward({.x = x}, dispatcher, std::nullopt);
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({0, 0, 9, 0})));
  EXPECT_TRUE(close(y, naive_moe(*layer, x.detach(), routing)));
  Leaves leaves = leaves_of(*layer);
  leaves.emplace_back("x", x);
  EXPECT_TRUE(gradients_match([&] { return layer->forward({.x = x}, dispatcher, std::nullopt).y.square().sum(); },
                              leaves, {.samples = 200}));
}

TEST(MoeLayer, ExpertsWithoutTokensGetZeroGradientsAndAreThere) {
  MoeLayer layer = one_sided_layer();
  const auto x = random_tensor({9, kHidden}, 20).abs() + 0.1;
  LocalDispatcher dispatcher;
  layer->forward({.x = x}, dispatcher, std::nullopt).y.sum().backward();
  for (const auto* name : {"experts.gate_up_proj", "experts.down_proj"}) {
    const auto gradient = parameter_of(*layer, name).grad();
    ASSERT_TRUE(gradient.defined());
    EXPECT_TRUE(gradient[2].ne(0).any().item<bool>());
    for (const int64_t expert : {0, 1, 3}) EXPECT_TRUE(gradient[expert].eq(0).all().item<bool>());
  }
}

TEST(MoeLayer, NoTokensAtAll) {
  MoeLayer layer = random_moe_layer({"moe.num_shared_experts=1"});
  const auto x = torch::zeros({0, kHidden}, torch::TensorOptions(kF64)).requires_grad_();
  LocalDispatcher dispatcher;
  const auto y = layer->forward({.x = x}, dispatcher, std::nullopt).y;
  EXPECT_EQ(y.sizes(), x.sizes());
  y.sum().backward();
  for (const auto& parameter : layer->parameters()) {
    EXPECT_TRUE(parameter.grad().defined() && parameter.grad().eq(0).all().item<bool>());
  }
}

TEST(MoeLayer, EveryChoiceOfATokenDropped) {
  // Capacity for one choice an expert: 8 of the 9 tokens get nothing but still a (zero) result.
  MoeLayer layer = one_sided_layer();
  const auto x = random_tensor({9, kHidden}, 20).abs() + 0.1;
  LocalDispatcher dispatcher;
  auto [y, routing] = layer->forward({.x = x}, dispatcher, 0.1);
  EXPECT_EQ(routing.kept.sum().item<int64_t>(), 1);
  EXPECT_EQ(y.ne(0).any(1).sum().item<int64_t>(), 1);
}

}  // namespace
}  // namespace switchyard::test::moe_layer_test
