// Sigmoid scores, expert bias, groups, random second experts, null experts and Switch: what top-k routing has besides
// the choices of router_test.cpp.
#include <torch/optim/sgd.h>

#include <cmath>
#include <limits>

#include "model/moe/moe_layer.h"
#include "model/moe/routers/selection.h"
#include "model/moe/routers/top_k_router.h"
#include "tests/support/models.h"

namespace switchyard::test::top_k_variants_test {
namespace {

using torch::Tensor;

constexpr int64_t kHidden = 8;

// A router whose logits are its inputs, of which it has one per expert and null expert.
std::shared_ptr<Router> identity_router(int64_t experts, const std::vector<std::string>& overrides, int64_t null = 0) {
  std::vector<std::string> all = {"moe.num_experts=" + std::to_string(experts)};
  all.insert(all.end(), overrides.begin(), overrides.end());
  auto router = make_router(*tiny_moe_config(all).moe, experts + null, 0);
  router->to(kF64);
  const torch::NoGradGuard no_grad;
  const Tensor identity = torch::eye(experts + null, kF64);
  parameter_of(*router, "weight").copy_(identity.narrow(0, 0, experts));
  if (null > 0) parameter_of(*router, "null_weight").copy_(identity.narrow(0, experts, null));
  return router;
}

void set_bias(const torch::nn::Module& module, const Tensor& bias, const std::string& name = "bias") {
  const torch::NoGradGuard no_grad;
  module.named_buffers()[name].copy_(bias);
}

Tensor row(const std::vector<double>& values) { return doubles(values).view({1, -1}); }
Tensor ids(const std::vector<int64_t>& values) { return integers(values).view({1, -1}); }
// The logits whose sigmoids are `scores`.
Tensor logits_of(const std::vector<double>& scores) { return torch::logit(row(scores)); }

// -- sigmoid scores ---------------------------------------------------------------------------------------------------

TEST(SigmoidRouter, ByHand) {
  const auto x = logits_of({0.5, 0.8, 0.2, 0.6});  // scores; their sum is 2.1
  const auto route = [&](std::vector<std::string> overrides) {
    overrides.emplace_back("moe.router.score=sigmoid");
    return identity_router(4, overrides)->forward({.x = x});
  };
  const auto routing = route({});
  EXPECT_TRUE(identical(routing.expert_ids, ids({1, 3})));
  EXPECT_TRUE(close(routing.weights, row({4 / 7.0, 3 / 7.0})));
  EXPECT_TRUE(close(routing.probabilities, row({5 / 21.0, 8 / 21.0, 2 / 21.0, 6 / 21.0})));
  EXPECT_TRUE(close(routing.logits, x));
  EXPECT_FALSE(routing.chosen.defined());
  EXPECT_TRUE(close(route({"moe.router.normalize=false"}).weights, row({0.8, 0.6})));
  EXPECT_TRUE(close(route({"moe.router.scale=2.5"}).weights, row({10 / 7.0, 15 / 14.0})));
  EXPECT_TRUE(close(route({"moe.top_k=1"}).weights, row({0.8})));
  EXPECT_TRUE(close(route({"moe.top_k=1", "moe.router.scale=2.5"}).weights, row({2.0})));
}

TEST(SigmoidRouter, VanishingScoresStillHaveWeights) {
  // In float32 every one of these scores is 0, or 1: the normalised weights must not be 0 / 0, nor the choices ties.
  auto router = identity_router(3, {"moe.router.score=sigmoid"});
  router->to(kF32);
  const auto low = router->forward({.x = row({-200, -201, -200 + std::log(3.0)}).to(kF32)});
  EXPECT_TRUE(identical(low.expert_ids, ids({2, 0})));
  EXPECT_TRUE(close(low.weights, row({0.75, 0.25}).to(kF32)));
  const auto high = router->forward({.x = row({50, 90, 70}).to(kF32)});
  EXPECT_TRUE(identical(high.expert_ids, ids({1, 2})));
  EXPECT_TRUE(close(high.weights, row({0.5, 0.5}).to(kF32)));
}

TEST(SigmoidRouter, ScoresThatFloat32RoundsToOneAreStillOrderedUnderABias) {
  auto router = identity_router(4, {"moe.router.score=sigmoid", "moe.router.expert_bias=true"});
  router->to(kF32);
  EXPECT_TRUE(identical(router->forward({.x = row({20, 25, 30, 18}).to(kF32)}).expert_ids, ids({2, 1})));
  EXPECT_TRUE(identical(router->forward({.x = row({-30, -20, -25, -28}).to(kF32)}).expert_ids, ids({1, 2})));
}

TEST(ScaledRouter, ScalesAfterNormalising) {
  const auto x = row({std::log(2.0), std::log(3.0), std::log(6.0)});
  EXPECT_TRUE(close(identity_router(3, {"moe.router.scale=16"})->forward({.x = x}).weights, row({32 / 3.0, 16 / 3.0})));
  EXPECT_TRUE(
      close(identity_router(3, {"moe.router.scale=11", "moe.router.normalize=false"})->forward({.x = x}).weights,
            row({6, 3})));
}

// -- expert bias ------------------------------------------------------------------------------------------------------

TEST(ExpertBias, ChoosesButDoesNotWeigh) {
  const auto router = identity_router(4, {"moe.router.score=sigmoid", "moe.router.expert_bias=true"});
  set_bias(*router, doubles({0.5, 0, 0, 0}));  // with it: 1, 0.8, 0.2, 0.6
  const auto routing = router->forward({.x = logits_of({0.5, 0.8, 0.2, 0.6})});
  EXPECT_TRUE(identical(routing.expert_ids, ids({0, 1})));
  EXPECT_TRUE(close(routing.weights, row({5 / 13.0, 8 / 13.0})));
  EXPECT_TRUE(close(routing.probabilities, row({5 / 21.0, 8 / 21.0, 2 / 21.0, 6 / 21.0})));
}

TEST(ExpertBias, AddsToTheSoftmaxToo) {
  const auto router = identity_router(3, {"moe.router.expert_bias=true", "moe.router.normalize=false", "moe.top_k=1"});
  const auto x = row({std::log(2.0), std::log(3.0), std::log(6.0)});  // 2/11, 3/11, 6/11
  set_bias(*router, doubles({4.1 / 11, 0, 0}));
  const auto routing = router->forward({.x = x});
  EXPECT_TRUE(identical(routing.expert_ids, ids({0})));
  EXPECT_TRUE(close(routing.weights, row({2 / 11.0})));
  set_bias(*router, doubles({3.9 / 11, 0, 0}));
  EXPECT_TRUE(identical(router->forward({.x = x}).expert_ids, ids({2})));
}

TEST(ExpertBias, MovesAgainstTheLoadByHand) {
  const auto router = identity_router(4, {"moe.router.expert_bias=true", "moe.router.bias_rate=0.25"});
  const auto bias = router->named_buffers()["bias"];
  EXPECT_TRUE(identical(bias, torch::zeros({4}, kF64)));
  router->after_step(doubles({5, 1, 3, 3}), {});  // the mean is 3
  EXPECT_TRUE(identical(bias, doubles({-0.25, 0.25, 0, 0})));
  router->after_step(doubles({0, 0, 12, 0}), {});
  EXPECT_TRUE(identical(bias, doubles({0, 0.5, -0.25, 0.25})));
  EXPECT_FALSE(bias.requires_grad());
}

TEST(ExpertBias, WithoutItNothingMoves) {
  const auto router = identity_router(4, {});
  EXPECT_TRUE(router->buffers().empty());
  const auto before = parameter_of(*router, "weight").clone();
  router->after_step(doubles({5, 1, 3, 3}), {});
  EXPECT_TRUE(identical(parameter_of(*router, "weight"), before));
}

TEST(ExpertBias, BalancesTokensThatAllWantTheSameExperts) {
  // Scores rise with the expert's number for every token. Without a bias the last two take everything.
  const auto router =
      identity_router(6, {"moe.router.score=sigmoid", "moe.router.expert_bias=true", "moe.router.bias_rate=0.005"});
  const auto x = random_tensor({300, 6}, 1) + 0.6 * torch::arange(6, torch::TensorOptions(kF64));
  const auto violation = [&] {
    const Tensor load = tokens_per_expert(router->forward({.x = x})).to(kF64);
    return (load.max() / load.mean() - 1).item<double>();
  };
  EXPECT_GT(violation(), 1);
  for (int step = 0; step < 300; ++step) {
    router->after_step(tokens_per_expert(router->forward({.x = x})).to(kF64), {});
  }
  EXPECT_LT(violation(), 0.15);
}

// -- groups -----------------------------------------------------------------------------------------------------------

TEST(LimitToGroups, ByHand) {
  const Tensor scores = doubles({0.9, 0.1, 0.5, 0.6, 0.7, 0.2}).view({1, 6});
  const auto open = [&](int64_t top_groups, GroupScore score) {
    return limit_to_groups(scores, 3, top_groups, score).isfinite().to(torch::kInt64);
  };
  // Best scores 0.9, 0.6, 0.7; sums 1.0, 1.1, 0.9.
  EXPECT_TRUE(identical(open(1, GroupScore::kMax), ids({1, 1, 0, 0, 0, 0})));
  EXPECT_TRUE(identical(open(2, GroupScore::kMax), ids({1, 1, 0, 0, 1, 1})));
  EXPECT_TRUE(identical(open(1, GroupScore::kTopTwoSum), ids({0, 0, 1, 1, 0, 0})));
  EXPECT_TRUE(identical(open(2, GroupScore::kTopTwoSum), ids({1, 1, 1, 1, 0, 0})));
  EXPECT_TRUE(identical(limit_to_groups(scores, 3, 3, GroupScore::kMax), scores));
}

TEST(LimitToGroups, OnlyTheBestTwoOfAGroupCount) {
  const Tensor scores = doubles({0.4, 0.4, 0.4, 0.5, 0.5, 0}).view({1, 6});
  const Tensor limited = limit_to_groups(scores, 2, 1, GroupScore::kTopTwoSum);
  EXPECT_TRUE(identical(limited.isfinite().to(torch::kInt64), ids({0, 0, 0, 1, 1, 1})));
}

TEST(GroupLimitedRouter, ByHand) {
  const auto route = [&](std::vector<std::string> overrides, const Tensor& bias = {}) {
    overrides.insert(overrides.end(), {"moe.router.score=sigmoid", "moe.router.num_groups=3"});
    if (bias.defined()) overrides.emplace_back("moe.router.expert_bias=true");
    const auto router = identity_router(6, overrides);
    if (bias.defined()) set_bias(*router, bias);
    return router->forward({.x = logits_of({0.9, 0.1, 0.5, 0.6, 0.7, 0.2})});
  };
  EXPECT_TRUE(identical(route({}).expert_ids, ids({0, 1})));
  const auto two_sum = route({"moe.router.group_score=top_two_sum"});
  EXPECT_TRUE(identical(two_sum.expert_ids, ids({3, 2})));
  EXPECT_TRUE(close(two_sum.weights, row({6 / 11.0, 5 / 11.0})));
  EXPECT_TRUE(identical(route({"moe.top_k=3", "moe.router.top_groups=2"}).expert_ids, ids({0, 4, 5})));
  EXPECT_TRUE(
      identical(route({"moe.router.top_groups=2", "moe.router.group_score=top_two_sum"}).expert_ids, ids({0, 3})));
  // The bias counts in the groups' scores as in the experts'.
  const auto biased = route({"moe.router.group_score=top_two_sum"}, doubles({0, 0, 0, 0, 0, 0.6}));
  EXPECT_TRUE(identical(biased.expert_ids, ids({5, 4})));
  EXPECT_TRUE(close(biased.weights, row({2 / 9.0, 7 / 9.0})));
}

TEST(GroupLimitedRouter, NegativeBiasedScoresAreNotBeatenByOtherGroups) {
  const auto router = identity_router(
      4, {"moe.router.score=sigmoid", "moe.router.num_groups=2", "moe.router.expert_bias=true", "moe.top_k=2"});
  set_bias(*router, doubles({0, -3, -1, -1}));
  EXPECT_TRUE(identical(router->forward({.x = logits_of({0.9, 0.8, 0.5, 0.5})}).expert_ids, ids({0, 1})));
}

// The experts of one token by sorting, as the papers say it. `merit`: what experts are chosen by.
std::vector<int64_t> naive_choice(const std::vector<double>& merit, int64_t groups, int64_t top_groups, bool two,
                                  int64_t top_k) {
  const auto size = static_cast<int64_t>(merit.size()) / groups;
  std::vector<std::pair<double, int64_t>> best;
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<double> own(merit.begin() + g * size, merit.begin() + (g + 1) * size);
    std::sort(own.rbegin(), own.rend());
    best.emplace_back(two ? own[0] + own[1] : own[0], g);
  }
  std::sort(best.rbegin(), best.rend());
  std::vector<std::pair<double, int64_t>> experts;
  for (int64_t i = 0; i < top_groups; ++i) {
    for (int64_t e = best[i].second * size; e < (best[i].second + 1) * size; ++e) experts.emplace_back(merit[e], e);
  }
  std::sort(experts.rbegin(), experts.rend());
  std::vector<int64_t> chosen;
  for (int64_t k = 0; k < top_k; ++k) chosen.push_back(experts[k].second);
  return chosen;
}

TEST(GroupLimitedRouter, EqualsSortingTokenByToken) {
  const Tensor bias = 0.3 * random_tensor({12}, 9);
  for (const bool two : {false, true}) {
    for (const bool sigmoid : {false, true}) {
      for (const bool biased : {false, true}) {
        const auto router = identity_router(12, {"moe.top_k=5", "moe.router.num_groups=4", "moe.router.top_groups=2",
                                                 std::string("moe.router.group_score=") + (two ? "top_two_sum" : "max"),
                                                 std::string("moe.router.score=") + (sigmoid ? "sigmoid" : "softmax"),
                                                 std::string("moe.router.expert_bias=") + (biased ? "true" : "false")});
        if (biased) set_bias(*router, bias);
        const auto x = random_tensor({60, 12}, 4);
        const auto routing = router->forward({.x = x});
        for (int64_t t = 0; t < x.size(0); ++t) {
          Tensor merit = sigmoid ? torch::sigmoid(x[t]) : torch::softmax(x[t], 0);
          if (biased) merit = merit + bias;
          const double* first = merit.contiguous().const_data_ptr<double>();
          EXPECT_TRUE(identical(routing.expert_ids[t], integers(naive_choice({first, first + 12}, 4, 2, two, 5))));
        }
      }
    }
  }
}

// -- random second expert ---------------------------------------------------------------------------------------------

TEST(RandomSecondExpert, StaysWithTwiceItsWeight) {
  // Weights 3/4 and 1/4: the second stays in half of the tokens; 1/2 and 1/2: always.
  constexpr int64_t kTokens = 20000;
  const auto router = identity_router(3, {"moe.router.second_expert=random"});
  torch::manual_seed(1);
  const auto routing = router->forward({.x = row({std::log(3.0), 0, -9}).expand({kTokens, 3})});
  const auto stays = routing.chosen.select(1, 1);
  EXPECT_TRUE(routing.chosen.select(1, 0).all().item<bool>());
  EXPECT_NEAR(stays.to(kF64).mean().item<double>(), 0.5, 0.015);  // four standard deviations
  // The first one's weight is what it was; a second one that went weighs nothing.
  EXPECT_TRUE(close(routing.weights.select(1, 0), torch::full({kTokens}, 0.75, kF64)));
  EXPECT_TRUE(close(routing.weights.select(1, 1), 0.25 * stays.to(kF64)));
  EXPECT_TRUE(
      identical(tokens_per_expert(routing), torch::stack({torch::tensor(kTokens), stays.sum(), torch::tensor(0L)})));
  const auto even = router->forward({.x = row({0, 0, -9}).expand({kTokens, 3})});
  EXPECT_TRUE(even.chosen.all().item<bool>());
}

TEST(RandomSecondExpert, DependsOnTheShareNotOnTheScale) {
  const auto x = random_tensor({500, 3}, 3);
  const auto stays = [&](const std::vector<std::string>& overrides) {
    std::vector<std::string> all = {"moe.router.second_expert=random"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    torch::manual_seed(4);
    return identity_router(3, all)->forward({.x = x}).chosen;
  };
  const auto plain = stays({});
  EXPECT_FALSE(plain.all().item<bool>());
  EXPECT_TRUE(identical(stays({"moe.router.normalize=false"}), plain));
  EXPECT_TRUE(identical(stays({"moe.router.scale=16"}), plain));
}

TEST(RandomSecondExpert, IsAlwaysUsedInEvaluation) {
  const auto router = identity_router(3, {"moe.router.second_expert=random"});
  router->eval();
  const auto x = random_tensor({50, 3}, 3);
  const auto routing = router->forward({.x = x});
  EXPECT_FALSE(routing.chosen.defined());
  EXPECT_TRUE(identical(routing.weights, identity_router(3, {})->forward({.x = x}).weights));
}

// -- null experts -----------------------------------------------------------------------------------------------------

TEST(NullExperts, ByHand) {
  // Scores 2, 3, 6 of 20, and 9 of the null expert: it and expert 2 are chosen.
  const auto x = row({std::log(2.0), std::log(3.0), std::log(6.0), std::log(9.0)});
  const auto routing = identity_router(3, {"moe.router.null_experts=1"}, 1)->forward({.x = x});
  EXPECT_TRUE(identical(routing.chosen.to(torch::kInt64), ids({0, 1})));
  EXPECT_EQ(routing.expert_ids[0][1].item<int64_t>(), 2);
  EXPECT_TRUE(routing.expert_ids.ge(0).logical_and(routing.expert_ids.lt(3)).all().item<bool>());
  EXPECT_TRUE(close(routing.weights, row({0, 6 / 15.0})));
  EXPECT_TRUE(close(routing.logits, x.narrow(1, 0, 3)));
  EXPECT_TRUE(close(routing.probabilities, row({2 / 11.0, 3 / 11.0, 6 / 11.0})));
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({0, 0, 1})));
  EXPECT_TRUE(close(routing.smooth_experts, doubles({1})));
  const auto plain =
      identity_router(3, {"moe.router.null_experts=1", "moe.router.normalize=false"}, 1)->forward({.x = x});
  EXPECT_TRUE(close(plain.weights, row({0, 6 / 20.0})));
}

TEST(NullExperts, SigmoidScoresByHand) {
  const auto router = identity_router(2, {"moe.router.null_experts=2", "moe.router.score=sigmoid"}, 2);
  const auto routing = router->forward({.x = logits_of({0.5, 0.1, 0.75, 0.2})});
  EXPECT_TRUE(identical(routing.chosen.to(torch::kInt64), ids({0, 1})));
  EXPECT_TRUE(close(routing.weights, row({0, 0.4})));
  EXPECT_TRUE(close(routing.probabilities, row({5 / 6.0, 1 / 6.0})));
}

TEST(NullExperts, TheSmoothCountIsTheCountWithTheGradientOfTheProbability) {
  const auto router = identity_router(4, {"moe.router.null_experts=3", "moe.top_k=3"}, 3);
  const auto x = random_tensor({20, 7}, 1).requires_grad_();
  const auto routing = router->forward({.x = x});
  EXPECT_TRUE(close(routing.smooth_experts, routing.chosen.sum(-1).to(kF64)));
  EXPECT_NE(routing.smooth_experts.min().item<double>(), routing.smooth_experts.max().item<double>());
  const auto probe = random_tensor({20}, 2);
  const auto smooth = torch::autograd::grad({(routing.smooth_experts * probe).sum()}, {x})[0];
  const auto expected = 3 * torch::softmax(x, -1).narrow(1, 0, 4).sum(-1);
  EXPECT_TRUE(close(smooth, torch::autograd::grad({(expected * probe).sum()}, {x})[0]));
}

TEST(NullExperts, OneTokenUsesAllAndAnotherNone) {
  const auto router = identity_router(2, {"moe.router.null_experts=2"}, 2);
  const auto routing = router->forward({.x = doubles({3, 4, 0, 1, 0, 1, 3, 4}).view({2, 4})});
  EXPECT_TRUE(identical(routing.chosen.to(torch::kInt64), integers({1, 1, 0, 0}).view({2, 2})));
  EXPECT_TRUE(identical(routing.smooth_experts, doubles({2, 0})));
  EXPECT_TRUE(routing.weights[1].eq(0).all().item<bool>());
}

TEST(NullExperts, TheBudgetIsReachedByDescent) {
  // Mean number of experts of a token among 4 choices of 5 experts and 5 null ones, of which the latter start unliked.
  const auto router = identity_router(5, {"moe.router.null_experts=5", "moe.top_k=4"}, 5);
  const auto x = torch::cat({random_tensor({200, 9}, 1), torch::full({200, 1}, 1.0, kF64)}, 1);
  {
    const torch::NoGradGuard no_grad;
    parameter_of(*router, "weight").copy_(0.3 * random_tensor({5, 10}, 2)).select(1, 9).fill_(1);
    parameter_of(*router, "null_weight").copy_(0.3 * random_tensor({5, 10}, 3)).select(1, 9).fill_(-1);
  }
  const auto mean = [&] { return router->forward({.x = x}).smooth_experts.mean(); };
  EXPECT_GT(mean().item<double>(), 3);
  torch::optim::SGD descent(router->parameters(), torch::optim::SGDOptions(0.5));
  for (int step = 0; step < 100; ++step) {
    descent.zero_grad();
    (mean() / 2 - 1).square().backward();
    descent.step();
  }
  EXPECT_NEAR(mean().item<double>(), 2, 0.1);
}

// -- Switch -----------------------------------------------------------------------------------------------------------

TEST(SwitchRouter, ByHand) {
  const auto router = identity_router(3, {"moe.router=switch", "moe.top_k=1"});
  const auto routing = router->forward({.x = row({std::log(2.0), std::log(3.0), std::log(6.0)})});
  EXPECT_TRUE(identical(routing.expert_ids, ids({2})));
  EXPECT_TRUE(close(routing.weights, row({6 / 11.0})));
  EXPECT_TRUE(close(routing.probabilities, row({2 / 11.0, 3 / 11.0, 6 / 11.0})));
}

TEST(SwitchRouter, IsTopKWithOneChoice) {
  const auto x = random_tensor({40, 5}, 1);
  const auto route = [&](const std::string& name) {
    torch::manual_seed(2);
    return identity_router(5, {"moe.router=" + name, "moe.top_k=1", "moe.router.jitter=0.1"})->forward({.x = x});
  };
  const auto routing = route("switch");
  const auto other = route("top_k");
  EXPECT_TRUE(identical(routing.expert_ids, other.expert_ids));
  EXPECT_TRUE(identical(routing.weights, other.weights));
  EXPECT_FALSE(torch::equal(routing.logits, x));  // jittered
}

TEST(SwitchRouter, StartsTenTimesSmaller) {
  const auto spread = [](const std::vector<std::string>& overrides) {
    std::vector<std::string> all = {"moe.num_experts=64", "model.hidden_size=64", "moe.router=switch", "moe.top_k=1"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    const auto model = make_model(tiny_config(all));
    return parameter_of(*model, "layers.0.moe.router.weight").std().item<double>();
  };
  EXPECT_NEAR(spread({}), 0.04, 0.002);  // 0.1 of the tiny model's init_std
  EXPECT_NEAR(spread({"moe.router.init_scale=1"}), 0.4, 0.02);
}

TEST(SwitchRouter, CapacityByHand) {
  // Six tokens, three experts, factor 1: two places each. Tokens 0, 1, 2 and 5 want expert 0.
  const auto router = identity_router(3, {"moe.router=switch", "moe.top_k=1"});
  const auto x = doubles({5, 0, 0, 5, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 5, 9, 0, 0}).view({6, 3});
  const auto kept = [&](double factor, DropPolicy policy) {
    return keep_within_capacity(router->forward({.x = x}), 3, 1, factor, policy).flatten().to(torch::kInt64);
  };
  EXPECT_TRUE(identical(kept(1.0, DropPolicy::kPosition), integers({1, 1, 0, 1, 1, 0})));
  EXPECT_TRUE(identical(kept(1.0, DropPolicy::kProbability), integers({1, 0, 0, 1, 1, 1})));
  EXPECT_TRUE(identical(kept(1.25, DropPolicy::kPosition), integers({1, 1, 1, 1, 1, 0})));
  EXPECT_TRUE(identical(kept(2.0, DropPolicy::kPosition), integers({1, 1, 1, 1, 1, 1})));
}

// -- all variants -----------------------------------------------------------------------------------------------------

struct Variant {
  std::string name;
  std::vector<std::string> overrides;
  std::optional<double> capacity_factor = std::nullopt;
};

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"sigmoid", {"moe.router.score=sigmoid"}},
      {"sigmoid, not normalised", {"moe.router.score=sigmoid", "moe.router.normalize=false", "moe.router.scale=1.7"}},
      {"DeepSeek-V2",
       {"moe.num_experts=6", "moe.router.num_groups=3", "moe.router.top_groups=2", "moe.router.normalize=false",
        "moe.router.scale=4", "moe.num_shared_experts=1"}},
      {"DeepSeek-V3",
       {"moe.num_experts=8", "moe.top_k=3", "moe.router.score=sigmoid", "moe.router.num_groups=4",
        "moe.router.top_groups=2", "moe.router.group_score=top_two_sum", "moe.router.expert_bias=true",
        "moe.router.scale=2.5", "moe.num_shared_experts=1"}},
      {"bias on softmax", {"moe.router.expert_bias=true"}},
      {"bias, softmax after", {"moe.router.expert_bias=true", "moe.router.softmax=after"}},
      {"GShard", {"moe.router.second_expert=random"}},
      {"GShard with capacity", {"moe.router.second_expert=random", "moe.drop_policy=position"}, 0.5},
      {"null", {"moe.router.null_experts=3", "moe.top_k=3"}},
      {"null, sigmoid", {"moe.router.null_experts=2", "moe.router.score=sigmoid"}},
      {"null, softmax after", {"moe.router.null_experts=2", "moe.router.softmax=after"}},
      {"null and GShard", {"moe.router.null_experts=2", "moe.router.second_expert=random"}},
      {"null with capacity", {"moe.router.null_experts=3", "moe.top_k=3"}, 0.4},
      {"switch", {"moe.router=switch", "moe.top_k=1"}},
      {"switch with capacity", {"moe.router=switch", "moe.top_k=1", "moe.router.jitter=0.2"}, 1.0},
  };
  return all;
}

// A layer with random parameters and, where it has one, a random bias.
MoeLayer make_layer(const Variant& variant) {
  const Config config = tiny_moe_config(variant.overrides);
  MoeLayer layer(*config.moe, config.model, 0);
  layer->to(kF64);
  const torch::NoGradGuard no_grad;
  uint64_t seed = 1;
  for (auto& parameter : layer->parameters()) parameter.copy_(0.5 * random_tensor(parameter.sizes(), seed++));
  for (auto& buffer : layer->buffers()) buffer.copy_(0.2 * random_tensor(buffer.sizes(), seed++));
  return layer;
}

// The same draws in every pass.
MoeLayerImpl::Output run(MoeLayer& layer, const Tensor& x, const Variant& variant) {
  LocalDispatcher dispatcher;
  torch::manual_seed(11);
  return layer->forward({.x = x}, dispatcher, variant.capacity_factor);
}

Tensor naive_moe(const MoeLayer& layer, const Tensor& x, const RouterOutput& routing) {
  Tensor y = torch::zeros_like(x);
  const Tensor& computed = routing.dispatched();
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t k = 0; k < routing.expert_ids.size(1); ++k) {
      if (computed.defined() && !computed[t][k].item<bool>()) continue;
      const auto expert = routing.expert_ids[t][k].item<int64_t>();
      y[t] += routing.weights[t][k] * naive_expert(x[t], parameter_of(*layer, "experts.gate_up_proj")[expert],
                                                   parameter_of(*layer, "experts.down_proj")[expert]);
    }
    if (!layer->named_parameters().contains("shared_experts.gate_up_proj")) continue;
    y[t] += naive_expert(x[t], parameter_of(*layer, "shared_experts.gate_up_proj"),
                         parameter_of(*layer, "shared_experts.down_proj"));
  }
  return y;
}

TEST(TopKVariants, LayersEqualALoopOverTokens) {
  const torch::NoGradGuard no_grad;
  for (const Variant& variant : variants()) {
    SCOPED_TRACE(variant.name);
    MoeLayer layer = make_layer(variant);
    const auto x = random_tensor({33, kHidden}, 20);
    const auto [y, routing] = run(layer, x, variant);
    EXPECT_TRUE(close(y, naive_moe(layer, x, routing)));
    // Where there are left-out choices, they are what the test is about.
    if (routing.dispatched().defined()) {
      EXPECT_FALSE(routing.dispatched().all().item<bool>());
      EXPECT_TRUE(routing.dispatched().any().item<bool>());
    }
    if (routing.chosen.defined() && routing.kept.defined()) {
      EXPECT_FALSE(routing.kept.logical_and(routing.chosen.logical_not()).any().item<bool>());
    }
    EXPECT_TRUE(close(routing.probabilities.sum(-1), torch::ones({33}, kF64)));
  }
}

TEST(TopKVariants, Gradients) {
  for (const Variant& variant : variants()) {
    SCOPED_TRACE(variant.name);
    MoeLayer layer = make_layer(variant);
    const auto x = random_tensor({9, kHidden}, 20).requires_grad_();
    const auto first = run(layer, x, variant).routing;
    const auto loss = [&] {
      const auto [y, routing] = run(layer, x, variant);
      EXPECT_TRUE(torch::equal(routing.expert_ids, first.expert_ids));
      return y.square().sum() + routing.probabilities.square().sum() + 0.01 * routing.logits.pow(3).sum();
    };
    Leaves leaves = {{"x", x}};
    for (const auto& leaf : leaves_of(layer->router())) leaves.push_back(leaf);
    EXPECT_TRUE(gradients_match(loss, leaves, {.samples = 30}));
  }
}

TEST(TopKVariants, SameInputAndSeedSameBits) {
  const torch::NoGradGuard no_grad;
  for (const Variant& variant : variants()) {
    SCOPED_TRACE(variant.name);
    MoeLayer layer = make_layer(variant);
    const auto x = random_tensor({50, kHidden}, 20);
    const auto one = run(layer, x, variant);
    const auto two = run(layer, x, variant);
    EXPECT_TRUE(identical(one.y, two.y));
    EXPECT_TRUE(identical(one.routing.weights, two.routing.weights));
    EXPECT_TRUE(identical(one.routing.expert_ids, two.routing.expert_ids));
  }
}

TEST(TopKVariants, NoTokensAtAll) {
  for (const Variant& variant : variants()) {
    SCOPED_TRACE(variant.name);
    MoeLayer layer = make_layer(variant);
    const auto x = torch::zeros({0, kHidden}, torch::TensorOptions(kF64)).requires_grad_();
    const auto [y, routing] = run(layer, x, variant);
    EXPECT_EQ(y.sizes(), x.sizes());
    EXPECT_EQ(tokens_per_expert(routing).sum().item<int64_t>(), 0);
    (y.sum() + routing.probabilities.sum()).backward();
    for (const auto& parameter : layer->parameters()) {
      EXPECT_TRUE(parameter.grad().defined() && parameter.grad().eq(0).all().item<bool>());
    }
  }
}

TEST(TopKVariants, EveryTokenWantsTheSameExperts) {
  const torch::NoGradGuard no_grad;
  for (const Variant& variant : variants()) {
    SCOPED_TRACE(variant.name);
    MoeLayer layer = make_layer(variant);
    const auto x = random_tensor({1, kHidden}, 21).expand({40, kHidden}).contiguous();
    const auto [y, routing] = run(layer, x, variant);
    EXPECT_TRUE(close(y, naive_moe(layer, x, routing)));
    EXPECT_TRUE(y.isfinite().all().item<bool>());
    layer->eval();  // without jitter
    const auto still = run(layer, x, variant).routing;
    EXPECT_LE(tokens_per_expert(still).gt(0).sum().item<int64_t>(), still.expert_ids.size(1));
  }
}

TEST(TopKVariants, NanStaysVisibleAndChoicesValid) {
  const torch::NoGradGuard no_grad;
  for (const Variant& variant : variants()) {
    SCOPED_TRACE(variant.name);
    MoeLayer layer = make_layer(variant);
    Tensor x = random_tensor({4, kHidden}, 20);
    x[2][3].fill_(std::numeric_limits<double>::quiet_NaN());
    const auto [y, routing] = run(layer, x, variant);
    EXPECT_TRUE(routing.probabilities[2].isnan().all().item<bool>());
    EXPECT_FALSE(routing.probabilities[1].isnan().any().item<bool>());
    const int64_t experts = routing.logits.size(1);
    EXPECT_TRUE(routing.expert_ids.ge(0).logical_and(routing.expert_ids.lt(experts)).all().item<bool>());
  }
}

}  // namespace
}  // namespace switchyard::test::top_k_variants_test
