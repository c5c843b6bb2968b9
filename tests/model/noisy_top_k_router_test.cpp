#include "model/moe/routers/noisy_top_k_router.h"

#include <cmath>

#include "tests/support/router_layer.h"

namespace switchyard::test::noisy_top_k_router_test {
namespace {

using torch::Tensor;

const std::string kType = "moe.router.type=noisy_top_k";

double phi(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

// A router over D = 2 whose E = 3 clean logits are x0, x1 and x0 + x1, and whose noise has the spread softplus(0) =
// ln 2.
std::shared_ptr<Router> hand_router() {
  auto router = random_router({"moe.num_experts=3", kType}, 2);
  set_parameter(*router, "weight", doubles({1, 0, 0, 1, 1, 1}).view({3, 2}));
  set_parameter(*router, "noise_weight", torch::zeros({3, 2}, kF64));
  return router;
}

TEST(NoisyTopKRouter, EvaluationByHand) {
  // Logits ln 2, ln 3, ln 6: the softmax over the two largest is 2/3, 1/3.
  const auto router = hand_router();
  router->eval();
  const auto routing = router->forward({.x = doubles({std::log(2.0), std::log(3.0)}).view({1, 2})});
  EXPECT_TRUE(close(routing.probabilities, doubles({2 / 11.0, 3 / 11.0, 6 / 11.0}).view({1, 3})));
  EXPECT_TRUE(identical(routing.expert_ids, integers({2, 1}).view({1, 2})));
  EXPECT_TRUE(close(routing.weights, doubles({2 / 3.0, 1 / 3.0}).view({1, 2})));
  EXPECT_FALSE(routing.smooth_load.defined());
}

TEST(NoisyTopKRouter, TrainingByHand) {
  const auto router = hand_router();
  torch::manual_seed(3);
  const auto routing = router->forward({.x = torch::zeros({1, 2}, kF64)});
  // The same draw: all clean logits are 0, so H = ln 2 times the noise.
  torch::manual_seed(3);
  const Tensor noise = torch::randn({1, 3}, kF64);
  const auto h = [&](int64_t expert) { return std::log(2.0) * noise[0][expert].item<double>(); };
  const auto order = noise.argsort(1, /*descending=*/true);
  const int64_t first = order[0][0].item<int64_t>();
  const int64_t second = order[0][1].item<int64_t>();
  const int64_t third = order[0][2].item<int64_t>();
  EXPECT_TRUE(identical(routing.expert_ids, order.narrow(1, 0, 2)));
  const double weight = 1 / (1 + std::exp(h(second) - h(first)));
  EXPECT_TRUE(close(routing.weights, doubles({weight, 1 - weight}).view({1, 2})));
  EXPECT_TRUE(close(routing.logits, torch::zeros({1, 3}, kF64)));
  // Without one of the two that are in, the second largest is the third; without the third it is the second.
  std::vector<double> load(3);
  load[static_cast<size_t>(first)] = phi(-h(third) / std::log(2.0));
  load[static_cast<size_t>(second)] = phi(-h(third) / std::log(2.0));
  load[static_cast<size_t>(third)] = phi(-h(second) / std::log(2.0));
  EXPECT_TRUE(close(routing.smooth_load, doubles(load)));
}

// Load_i as the paper defines it, a token and an expert at a time.
Tensor naive_load(const Tensor& clean, const Tensor& noisy, const Tensor& spread, int64_t top_k) {
  Tensor load = torch::zeros({clean.size(1)}, kF64);
  for (int64_t t = 0; t < clean.size(0); ++t) {
    for (int64_t i = 0; i < clean.size(1); ++i) {
      std::vector<double> others;
      for (int64_t j = 0; j < clean.size(1); ++j) {
        if (j != i) others.push_back(noisy[t][j].item<double>());
      }
      std::sort(others.rbegin(), others.rend());
      const double threshold = others[static_cast<size_t>(top_k - 1)];
      load[i] += phi((clean[t][i].item<double>() - threshold) / spread[t][i].item<double>());
    }
  }
  return load;
}

TEST(NoisyTopKRouter, LoadEqualsALoop) {
  const torch::NoGradGuard no_grad;
  for (const int64_t top_k : {2, 3, 6}) {
    const auto router = random_router({"moe.num_experts=7", "moe.top_k=" + std::to_string(top_k), kType}, 5);
    const Tensor x = random_tensor({9, 5}, 20);
    torch::manual_seed(4);
    const auto routing = router->forward({.x = x});
    torch::manual_seed(4);
    const Tensor noise = torch::randn({9, 7}, kF64);
    const Tensor spread = torch::softplus(torch::mm(x, parameter_of(*router, "noise_weight").t()));
    EXPECT_TRUE(close(routing.smooth_load, naive_load(routing.logits, routing.logits + noise * spread, spread, top_k)));
  }
}

TEST(NoisyTopKRouter, LoadIsTheExpectedCount) {
  const torch::NoGradGuard no_grad;
  const auto router = random_router({kType}, 5);
  const Tensor x = random_tensor({50, 5}, 20) + doubles({2, 0, 0, 0, 0});
  Tensor counts = torch::zeros({4}, kF64);
  Tensor load = torch::zeros({4}, kF64);
  torch::manual_seed(1);
  constexpr int kDraws = 400;
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto routing = router->forward({.x = x});
    counts += tokens_per_expert(routing) / static_cast<double>(kDraws);
    load += routing.smooth_load / static_cast<double>(kDraws);
  }
  // A count of 50 tokens deviates by at most sqrt(50 / 4) = 3.5, its mean over 400 draws by 0.18.
  EXPECT_LT((counts - load).abs().max().item<double>(), 0.7);
  EXPECT_GT((counts - counts.mean()).abs().max().item<double>(), 3);
}

TEST(NoisyTopKRouter, Gradients) {
  const auto router = random_router({"moe.num_experts=5", kType}, 3);
  const auto x = random_tensor({6, 3}, 1).requires_grad_();
  const auto probe = random_tensor({6, 2}, 2);
  const auto load_probe = random_tensor({5}, 3);
  const auto routing = [&] {
    torch::manual_seed(9);
    return router->forward({.x = x});
  };
  const auto first = routing();
  const Leaves leaves = {
      {"x", x}, {"weight", parameter_of(*router, "weight")}, {"noise_weight", parameter_of(*router, "noise_weight")}};
  const auto weights = [&] {
    const auto again = routing();
    EXPECT_TRUE(torch::equal(again.expert_ids, first.expert_ids));
    return (again.weights * probe).sum() + again.probabilities.square().sum();
  };
  EXPECT_TRUE(gradients_match(weights, leaves));
  EXPECT_TRUE(gradients_match([&] { return (routing().smooth_load * load_probe).sum(); }, leaves));
}

TEST(NoisyTopKRouter, StartsAtZero) {
  const Config config = tiny_config({"moe.num_experts=4", "moe.intermediate_size=5", kType});
  EXPECT_EQ(config.moe->router.init_scale, 0.0);
  Transformer model(config);
  model->initialise(3);
  for (const auto* name : {"weight", "noise_weight"}) {
    const Tensor value = parameter_of(*model, std::string("layers.0.moe.router.") + name);
    EXPECT_EQ(value.sizes(), (std::vector<int64_t>{4, 8}));
    EXPECT_TRUE(value.eq(0).all().item<bool>());
  }
}

TEST(NoisyTopKRouter, AllToOneExpertAndNoNoiseLeft) {
  // The noise network turned off (softplus underflows): finite everywhere, and the choice is that of the clean logits.
  const auto router = hand_router();
  set_parameter(*router, "noise_weight", torch::full({3, 2}, -1e4, kF64));
  const Tensor x = random_tensor({9, 2}, 1).abs() + 0.1;
  const auto routing = router->forward({.x = x});
  EXPECT_TRUE(routing.expert_ids.select(1, 0).eq(2).all().item<bool>());
  EXPECT_TRUE(close(routing.smooth_load, tokens_per_expert(routing).to(kF64)));
  const auto gradients =
      torch::autograd::grad({routing.smooth_load.square().sum() + routing.weights.sum()}, router->parameters());
  for (const auto& gradient : gradients) EXPECT_TRUE(gradient.isfinite().all().item<bool>());
}

TEST(NoisyTopKRouter, InALayer) {
  EXPECT_TRUE(layer_equals_loop({kType}));
  EXPECT_TRUE(layer_equals_loop({kType, "moe.top_k=3", "moe.num_experts=7"}));
  EXPECT_TRUE(layer_equals_loop({kType}, 0.5));
  EXPECT_TRUE(layer_takes_no_tokens({kType}));
  EXPECT_TRUE(layer_is_deterministic({kType}));
}

}  // namespace
}  // namespace switchyard::test::noisy_top_k_router_test
