#include "losses/auxiliary.h"

#include "losses/load_balancing.h"
#include "tests/support/configs.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

MoeConfig with_scope(AuxLossScope scope) {
  MoeConfig config = *tiny_moe_config().moe;
  config.aux_loss_scope = scope;
  return config;
}

// A routing of `tokens` tokens whose choices are given; probabilities from random logits.
RouterOutput routing_of(const Tensor& expert_ids, int64_t experts, uint64_t seed) {
  RouterOutput routing;
  routing.logits = random_tensor({expert_ids.size(0), experts}, seed).requires_grad_();
  routing.probabilities = torch::softmax(routing.logits, -1);
  routing.expert_ids = expert_ids;
  return routing;
}

TEST(BalancedCounts, WhatARouterCountedIsTakenOnlyWhereItIsMeant) {
  RouterOutput router;
  router.logits = torch::zeros({2, 3});
  router.expert_ids = torch::tensor({0, 1, 0, 2}, torch::kInt64).view({2, 2});
  router.counts = torch::tensor({7, 8, 9}, torch::kInt64);  // not what ids say, to be told apart
  const auto ids_say = torch::tensor({2, 1, 1}, torch::kInt64);
  EXPECT_TRUE(torch::equal(tokens_per_expert(router), router.counts));
  EXPECT_TRUE(torch::equal(tokens_per_expert_and_sequence(router, 2).sum(0), ids_say));
  EXPECT_TRUE(
      torch::equal(balanced_counts(router, AuxLossChoices::kFirst, 1)[0], torch::tensor({2, 0, 0}, torch::kInt64)));
  router.chosen = torch::ones({2, 2}, torch::kBool);
  EXPECT_TRUE(torch::equal(tokens_per_expert(router), ids_say));
}

TEST(AuxiliaryLosses, BalancedIsOneForAnyTopK) {
  // Uniform probabilities, and every expert chosen equally often: T * K assignments over E = 4.
  for (const int64_t top_k : {1, 2, 4}) {
    RouterOutput routing;
    routing.logits = torch::zeros({8, 4}, kF64);
    routing.probabilities = torch::full({8, 4}, 0.25, kF64);
    routing.expert_ids = (torch::arange(8).unsqueeze(1) + torch::arange(top_k)) % 4;
    const Tensor load = load_from_counts(tokens_per_expert(routing), kF64);
    EXPECT_DOUBLE_EQ(load_balancing_loss(routing.probabilities, load).item<double>(), 1.0);
    for (const auto scope : {AuxLossScope::kMicroBatch, AuxLossScope::kSequence, AuxLossScope::kGlobalBatch}) {
      EXPECT_DOUBLE_EQ(auxiliary_losses({routing}, with_scope(scope), 2, Tensor())[0].value.item<double>(), 1.0);
    }
  }
}

TEST(AuxiliaryLosses, SequencesAreRunsOfTokens) {
  // Tokens 0-1 are sequence 0 and tokens 2-3 sequence 1: P = (1, 0) and (0, 1), f the same: 2 in each. Over the whole
  // batch, P = f = (0.5, 0.5): balanced.
  RouterOutput routing;
  routing.logits = torch::zeros({4, 2}, kF64);
  routing.probabilities = doubles({1, 0, 1, 0, 0, 1, 0, 1}).view({4, 2});
  routing.expert_ids = integers({0, 0, 1, 1}).view({4, 1});
  const auto loss = [&](AuxLossScope scope) {
    return auxiliary_losses({routing}, with_scope(scope), 2, Tensor())[0].value.item<double>();
  };
  EXPECT_DOUBLE_EQ(loss(AuxLossScope::kSequence), 2.0);
  EXPECT_DOUBLE_EQ(loss(AuxLossScope::kMicroBatch), 1.0);
}

TEST(AuxiliaryLosses, SumOverLayersAndUseTheGlobalLoad) {
  const std::vector<RouterOutput> routers = {routing_of(integers({0, 1, 1, 1}).view({4, 1}), 3, 1),
                                             routing_of(integers({2, 2, 0, 1}).view({4, 1}), 3, 2)};
  const Tensor global = doubles({0.2, 0.3, 0.5, 0.6, 0.4, 0}).view({2, 3});
  const auto losses = auxiliary_losses(routers, with_scope(AuxLossScope::kGlobalBatch), 2, global);
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_EQ(losses[0].name, "aux_loss");
  EXPECT_EQ(losses[1].name, "z_loss");
  EXPECT_EQ(losses[0].num_layers, 2);
  EXPECT_EQ(losses[0].coefficient, 0.3);
  EXPECT_EQ(losses[1].coefficient, 0.05);
  const Tensor expected = load_balancing_loss(routers[0].probabilities, global[0]) +
                          load_balancing_loss(routers[1].probabilities, global[1]);
  EXPECT_TRUE(close(losses[0].value, expected));
  EXPECT_TRUE(close(losses[1].value, router_z_loss(routers[0].logits) + router_z_loss(routers[1].logits)));
  // The micro-batch scope looks at its own load whatever is given.
  const auto own = auxiliary_losses(routers, with_scope(AuxLossScope::kMicroBatch), 2, global)[0].value;
  EXPECT_TRUE(close(own, auxiliary_losses(routers, with_scope(AuxLossScope::kGlobalBatch), 2, Tensor())[0].value));
  EXPECT_FALSE(close(own, losses[0].value));
}

TEST(AuxiliaryLosses, GradientsByCentralDifferences) {
  const Tensor ids = integers({0, 1, 1, 1, 2, 0, 2, 1, 0, 2, 1, 0}).view({6, 2});
  const Tensor logits = random_tensor({6, 3}, 4).requires_grad_();
  for (const auto scope : {AuxLossScope::kMicroBatch, AuxLossScope::kSequence, AuxLossScope::kGlobalBatch}) {
    const auto loss = [&] {
      RouterOutput routing;
      routing.logits = logits;
      routing.probabilities = torch::softmax(logits, -1);
      routing.expert_ids = ids;
      const auto losses = auxiliary_losses({routing}, with_scope(scope), 2, doubles({0.5, 0.3, 0.2}).view({1, 3}));
      return losses[0].value + 0.1 * losses[1].value;
    };
    EXPECT_TRUE(gradients_match(loss, {{"logits", logits}}));
  }
}

const NamedLoss& named(const std::vector<NamedLoss>& losses, const std::string& name) {
  const auto found =
      std::find_if(losses.begin(), losses.end(), [&](const NamedLoss& loss) { return loss.name == name; });
  EXPECT_NE(found, losses.end()) << name;
  return *found;
}

TEST(AuxiliaryLosses, MeanOverLayersIsASmallerCoefficient) {
  const std::vector<RouterOutput> routers = {routing_of(integers({0, 1}).view({2, 1}), 3, 1),
                                             routing_of(integers({2, 0}).view({2, 1}), 3, 2)};
  MoeConfig config = with_scope(AuxLossScope::kMicroBatch);
  config.aux_loss_layers = AuxLossLayers::kMean;
  EXPECT_DOUBLE_EQ(auxiliary_losses(routers, config, 1, Tensor())[0].coefficient, 0.15);
}

TEST(AuxiliaryLosses, FirstChoicesOnly) {
  RouterOutput routing = routing_of(integers({0, 1, 0, 2}).view({2, 2}), 3, 1);
  MoeConfig config = with_scope(AuxLossScope::kMicroBatch);
  config.aux_loss_choices = AuxLossChoices::kFirst;
  EXPECT_TRUE(close(auxiliary_losses({routing}, config, 1, Tensor())[0].value,
                    load_balancing_loss(routing.probabilities, doubles({1, 0, 0}))));
}

TEST(AuxiliaryLosses, ProbabilitiesOverTheChosenByHand) {
  RouterOutput routing;
  routing.logits = torch::zeros({1, 3}, kF64);
  routing.probabilities = doubles({0.2, 0.3, 0.5}).view({1, 3});
  routing.expert_ids = integers({2, 0}).view({1, 2});
  routing.weights = doubles({0.5, 0.2}).view({1, 2});
  MoeConfig config = with_scope(AuxLossScope::kMicroBatch);
  config.aux_loss_probabilities = AuxLossProbabilities::kChosen;
  // P = (2/7, 0, 5/7), f = (1/2, 0, 1/2): 3 / 2.
  EXPECT_DOUBLE_EQ(auxiliary_losses({routing}, config, 1, Tensor())[0].value.item<double>(), 1.5);
  // Without the second choice P = f = (0, 0, 1).
  routing.chosen = torch::tensor({true, false}).view({1, 2});
  EXPECT_DOUBLE_EQ(auxiliary_losses({routing}, config, 1, Tensor())[0].value.item<double>(), 3.0);
}

TEST(AuxiliaryLosses, NullExpertsTakeTheirShareOfTheBudget) {
  RouterOutput routing = routing_of(integers({0, 1, 0, 2}).view({2, 2}), 3, 1);
  routing.smooth_experts = doubles({1, 2});
  MoeConfig config = with_scope(AuxLossScope::kMicroBatch);
  config.num_experts = 3;
  config.top_k = 2;
  config.router.null_experts = 3;  // one expert a token, then
  const auto losses = auxiliary_losses({routing}, config, 1, Tensor());
  EXPECT_DOUBLE_EQ(named(losses, "budget_loss").value.item<double>(), 1.25);
}

TEST(AuxiliaryLosses, WhatASchemeHasBesides) {
  RouterOutput routing = routing_of(integers({0, 1, 0, 2}).view({2, 2}), 4, 1);
  routing.weights = doubles({0.75, 0.25, 0.5, 0.5}).view({2, 2});
  routing.smooth_load = doubles({1, 3, 1, 3});
  routing.group_probabilities = doubles({0.75, 0.25, 0.25, 0.75}).view({2, 2});
  routing.group_ids = integers({0, 0}).view({2, 1});
  routing.smooth_experts = doubles({4, 4});
  const auto losses = auxiliary_losses({routing}, with_scope(AuxLossScope::kMicroBatch), 1, Tensor());
  // Importance (1.25, 0.25, 0.5, 0): 4 (1.5625 + 0.0625 + 0.25) / 4.
  EXPECT_DOUBLE_EQ(named(losses, "importance_loss").value.item<double>(), 1.875);
  EXPECT_DOUBLE_EQ(named(losses, "load_loss").value.item<double>(), 1.25);
  // P = (0.5, 0.5), f = (1, 0).
  EXPECT_DOUBLE_EQ(named(losses, "group_aux_loss").value.item<double>(), 1.0);
  EXPECT_DOUBLE_EQ(named(losses, "budget_loss").value.item<double>(), 2.0);
}

}  // namespace
}  // namespace switchyard::test
