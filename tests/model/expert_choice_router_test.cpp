#include "model/moe/routers/expert_choice_router.h"

#include <cmath>

#include "tests/support/moe_by_tokens.h"

namespace switchyard::test::expert_choice_router_test {
namespace {

std::vector<std::string> with(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), "moe.router=expert_choice");
  return overrides;
}

// Three tokens and experts whose probabilities are those of the rows.
RouterInput hand_input() { return {.x = doubles({0.6, 0.3, 0.1, 0.5, 0.2, 0.3, 0.3, 0.25, 0.45}).log().view({3, 3})}; }

TEST(ExpertChoiceRouter, ByHand) {
  // One place each: experts 0 and 1 take token 0, expert 2 takes token 2, nobody takes token 1.
  const auto routing = identity_router(with({"moe.top_k=1"}), 3)->forward(hand_input());
  EXPECT_TRUE(identical(routing.expert_ids, integers({0, 1, 2, 0, 2, 1, 2, 0, 1}).view({3, 3})));
  EXPECT_TRUE(identical(routing.chosen.to(torch::kInt64), integers({1, 1, 0, 0, 0, 0, 1, 0, 0}).view({3, 3})));
  EXPECT_TRUE(close(routing.weights, doubles({0.6, 0.3, 0.1, 0.5, 0.3, 0.2, 0.45, 0.3, 0.25}).view({3, 3})));
  EXPECT_TRUE(close(routing.observed, doubles({0.6, 0.3, 0.45})));
}

TEST(ExpertChoiceRouter, PlacesAreRoundedUpByHand) {
  // ceil(2 * 3 / 3) = 2 places; of 4 tokens in one sequence 3 (ceil(8 / 3)).
  const auto router = identity_router(with({"moe.top_k=2"}), 3);
  EXPECT_TRUE(identical(tokens_per_expert(router->forward(hand_input())), integers({2, 2, 2})));
  EXPECT_TRUE(close(router->forward(hand_input()).observed, doubles({0.5, 0.25, 0.3})));
  EXPECT_TRUE(identical(tokens_per_expert(router->forward({.x = random_tensor({4, 3}, 1)})), integers({3, 3, 3})));
}

TEST(ExpertChoiceRouter, EveryExpertHasTheSameLoadInEverySequence) {
  const auto router = random_router(with({}), 8);
  const RouterInput input = random_input(3, 10);
  const auto per_sequence = tokens_per_expert_and_sequence(router->forward(input), 3);
  EXPECT_TRUE(identical(per_sequence, torch::full({3, 4}, 5)));
}

TEST(ExpertChoiceRouter, OverTheBatchOnlyTheSumIsEven) {
  const auto router = random_router(with({"moe.router.choice_scope=batch"}), 8);
  const RouterInput input = random_input(3, 10);
  const auto routing = router->forward(input);
  EXPECT_TRUE(identical(tokens_per_expert(routing), torch::full({4}, 15)));
  EXPECT_TRUE(tokens_per_expert_and_sequence(routing, 3).ne(5).any().item<bool>());
}

TEST(ExpertChoiceRouter, OfEqualTokensTheFirstAreTaken) {
  const auto router = random_router(with({"moe.top_k=1"}), 8);
  const auto routing = router->forward({.x = torch::ones({2 * 8, 8}, kF64), .num_sequences = 2});
  const auto by_token = routing.chosen.sum(1).view({2, 8});
  EXPECT_TRUE(identical(by_token, integers({4, 4, 0, 0, 0, 0, 0, 0}).expand({2, 8}).contiguous()));
}

TEST(ExpertChoiceRouter, Gradients) {
  const auto router = random_router(with({}), 8);
  RouterInput input = random_input(2, 6);
  input.x.requires_grad_();
  const auto first = router->forward(input);
  const auto probe = random_tensor({12, 4}, 2) * first.chosen;
  const auto loss = [&] {
    const auto routing = router->forward(input);
    EXPECT_TRUE(torch::equal(routing.expert_ids, first.expert_ids) && torch::equal(routing.chosen, first.chosen));
    return (routing.weights * probe).sum() + routing.probabilities.square().sum() + routing.logits.pow(3).sum();
  };
  EXPECT_TRUE(gradients_match(loss, {{"x", input.x}, {"weight", parameter_of(*router, "weight")}}));
  EXPECT_FALSE(first.observed.requires_grad());
}

TEST(ExpertChoiceRouter, LayerEqualsALoopOverTokens) {
  for (const bool training : {true, false}) {
    for (const auto& overrides : {with({}), with({"moe.top_k=1"}), with({"moe.num_shared_experts=1"}),
                                  with({"moe.router.choice_scope=batch", "moe.num_experts=7", "moe.top_k=3"})}) {
      MoeLayer layer = random_moe_layer(overrides);
      layer->train(training);
      expect_layer_by_tokens(layer, random_input(2, 9));
    }
  }
}

TEST(ExpertChoiceRouter, ATokenThatNobodyTakesGetsZero) {
  MoeLayer layer = random_moe_layer(with({"moe.top_k=1"}));
  LocalDispatcher dispatcher;
  const auto [y, routing] = layer->forward(random_input(2, 9), dispatcher, std::nullopt);
  const auto untaken = routing.chosen.any(1).logical_not();
  EXPECT_GT(untaken.sum().item<int64_t>(), 0);
  EXPECT_TRUE(identical(y.eq(0).all(1), untaken));
}

TEST(ExpertChoiceRouter, TokensThatDontCountTakeNoPlace) {
  // Of two sequences of 8 tokens 5 and 3 count: the same as these alone.
  const auto router = random_router(with({"moe.router.causal_form=none"}), 8);
  router->eval();
  RouterInput input = random_input(2, 8);
  input.active = integers({0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1}).to(torch::kBool);
  const auto routing = router->forward(input);
  const auto taken_of = [](const RouterOutput& output) {
    return torch::zeros({output.chosen.size(0), 4}, torch::kBool).scatter(1, output.expert_ids, output.chosen);
  };
  const auto rows = torch::nonzero(input.active).flatten();
  const auto first = router->forward({.x = input.x.index_select(0, rows.narrow(0, 0, 5))});
  const auto second = router->forward({.x = input.x.index_select(0, rows.narrow(0, 5, 3))});
  EXPECT_TRUE(identical(tokens_per_expert(first), integers({3, 3, 3, 3})));
  EXPECT_TRUE(identical(taken_of(routing).index_select(0, rows), torch::cat({taken_of(first), taken_of(second)})));
  EXPECT_EQ(routing.chosen.sum().item<int64_t>(), 12 + 8);
}

TEST(ExpertChoiceRouter, EmptyBatch) { expect_empty_batch_works(with({})); }

TEST(ExpertChoiceRouter, WithoutAThresholdATokenTakesItsTopK) {
  const auto router = identity_router(with({"moe.top_k=2"}), 3);
  router->eval();
  const auto routing = router->forward(hand_input());
  EXPECT_TRUE(identical(routing.chosen, integers({1, 1, 0}).to(torch::kBool).expand({3, 3}).contiguous()));
  EXPECT_TRUE(identical(routing.expert_ids, integers({0, 1, 2, 0, 2, 1, 2, 0, 1}).view({3, 3})));
  EXPECT_FALSE(routing.observed.defined());
}

TEST(ExpertChoiceRouter, ThresholdsByHand) {
  const auto router = identity_router(with({"moe.top_k=1", "moe.router.momentum=0.9"}), 3);
  const auto counts = torch::zeros({3}, kF64);
  router->after_step(counts, {});  // nothing observed: still without thresholds
  router->eval();
  EXPECT_TRUE(identical(tokens_per_expert(router->forward(hand_input())), integers({2, 0, 1})));
  router->after_step(counts, doubles({0.55, 0.24, 0.5}));
  EXPECT_TRUE(identical(tokens_per_expert(router->forward(hand_input())), integers({1, 2, 0})));
  // (0.9 * 0.1 * first + 0.1 * second) / 0.19: 0.4974, 0.4295, 0.2579.
  router->after_step(counts, doubles({0.45, 0.6, 0.04}));
  const auto routing = router->forward(hand_input());
  EXPECT_TRUE(identical(tokens_per_expert(routing), integers({2, 0, 2})));
  EXPECT_TRUE(identical(routing.chosen.sum(1), integers({1, 2, 1})));
  // Generation does the same in a model that is training.
  router->train();
  RouterInput incremental = hand_input();
  incremental.incremental = true;
  EXPECT_TRUE(identical(router->forward(incremental).chosen, routing.chosen));
  EXPECT_TRUE(identical(tokens_per_expert(router->forward(hand_input())), integers({1, 1, 1})));
}

// Which of the first five tokens' choices change when the last five tokens do.
int64_t changed_choices(const std::vector<std::string>& overrides) {
  const auto router = random_router(overrides, 8);
  RouterInput input = random_input(1, 10);
  router->after_step({}, router->forward(input).observed);
  router->eval();
  const auto before = router->forward(input);
  input.x = torch::cat({input.x.narrow(0, 0, 5), 10 * random_tensor({5, 8}, 77)});
  const auto after = router->forward(input);
  const auto first = [](const RouterOutput& routing) { return (routing.weights * routing.chosen).narrow(0, 0, 5); };
  return first(before).ne(first(after)).sum().item<int64_t>();
}

TEST(ExpertChoiceRouter, WithThresholdsLaterTokensDoNotMatter) {
  EXPECT_EQ(changed_choices(with({})), 0);
  EXPECT_GT(changed_choices(with({"moe.router.causal_form=none"})), 0);
}

TEST(ExpertChoiceRouter, ThresholdsKeepTheLoadOfTraining) {
  // The same distribution again: about 2 experts a token, about evenly.
  const auto router = random_router(with({}), 8);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    router->after_step({}, router->forward(random_input(4, 64, seed)).observed);
  }
  router->eval();
  const auto routing = router->forward(random_input(16, 64, 99));
  EXPECT_NEAR(routing.chosen.sum().item<double>() / (16 * 64), 2.0, 0.1);
  EXPECT_LT(violation(routing), 0.2);
}

}  // namespace
}  // namespace switchyard::test::expert_choice_router_test
