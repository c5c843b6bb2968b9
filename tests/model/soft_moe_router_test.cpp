#include "model/moe/routers/soft_moe_router.h"

#include <cmath>

#include "tests/support/moe_by_tokens.h"

namespace switchyard::test::soft_moe_router_test {
namespace {

std::vector<std::string> with(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), {"moe.router=soft_moe", "moe.router.slots_per_expert=3"});
  return overrides;
}

// D = 2, two experts of one slot each. Slot vectors along the two axes, tokens too: cosines are 0 and 1.
TEST(SoftMoeRouter, ByHand) {
  const auto router = make_router(
      *tiny_moe_config({"moe.num_experts=2", "moe.top_k=1", "moe.router=soft_moe", "moe.router.slots_per_expert=1"})
           .moe,
      2, 0);
  router->to(kF64);
  const torch::NoGradGuard no_grad;
  router->named_parameters()["weight"].copy_(doubles({500, 0, 0, 3000}).view({2, 2}));
  router->named_parameters()["scale"].fill_(std::log(3.0));
  // Logits (ln 3, 0), (0, ln 3), (0, ln 3).
  const auto routing = router->forward({.x = doubles({2000, 0, 0, 7000, 0, 1000}).view({3, 2})});
  const auto near = [](const torch::Tensor& actual, const std::vector<double>& expected) {
    return torch::allclose(actual.flatten(), doubles(expected), 0, 1e-8);  // the summand in the lengths
  };
  EXPECT_TRUE(near(routing.slots->dispatch, {3 / 5.0, 1 / 7.0, 1 / 5.0, 3 / 7.0, 1 / 5.0, 3 / 7.0}));
  EXPECT_TRUE(near(routing.slots->combine, {3 / 4.0, 1 / 4.0, 1 / 4.0, 3 / 4.0, 1 / 4.0, 3 / 4.0}));
  EXPECT_TRUE(near(routing.probabilities, {3 / 4.0, 1 / 4.0, 1 / 4.0, 3 / 4.0, 1 / 4.0, 3 / 4.0}));
  EXPECT_TRUE(near(routing.logits, {std::log(3.0), 0, 0, std::log(3.0), 0, std::log(3.0)}));
  EXPECT_TRUE(identical(routing.expert_ids, integers({0, 1, 1}).view({3, 1})));
  EXPECT_TRUE(near(routing.weights, {3 / 4.0, 3 / 4.0, 3 / 4.0}));
}

TEST(SoftMoeRouter, ShapesSumsAndSharesOfExperts) {
  const auto routing = random_router(with({}), 8)->forward(random_input(3, 7));
  EXPECT_EQ(routing.slots->dispatch.sizes(), torch::IntArrayRef({3, 7, 12}));
  EXPECT_TRUE(close(routing.slots->dispatch.sum(1), torch::ones({3, 12}, kF64)));
  EXPECT_TRUE(close(routing.slots->combine.sum(2), torch::ones({3, 7}, kF64)));
  const auto shares = routing.slots->combine.view({21, 4, 3}).sum(2);
  EXPECT_TRUE(close(routing.probabilities, shares));
  EXPECT_TRUE(close(torch::softmax(routing.logits, -1), shares));
  EXPECT_TRUE(close(routing.weights, std::get<0>(shares.topk(2, 1))));
}

TEST(SoftMoeRouter, TheLengthsOfTokensAndSlotsDoNotMatter) {
  const auto router = random_router(with({}), 8);
  RouterInput input = random_input(1, 7);
  const auto before = router->forward(input).slots->combine;
  input.x = 100 * input.x;
  const torch::NoGradGuard no_grad;
  parameter_of(*router, "weight").mul_(100);
  EXPECT_TRUE(torch::allclose(router->forward(input).slots->combine, before, 0, 1e-6));
  parameter_of(*router, "scale").mul_(2);
  EXPECT_FALSE(torch::allclose(router->forward(input).slots->combine, before, 0, 1e-2));
}

// The layer as its formula says, a slot at a time.
torch::Tensor layer_by_slots(const MoeLayer& layer, const RouterInput& input, const SlotWeights& slots) {
  const auto gate_up = parameter_of(*layer, "experts.gate_up_proj");
  const auto down = parameter_of(*layer, "experts.down_proj");
  const auto x = input.x.view({input.num_sequences, -1, input.x.size(1)});
  const int64_t per_expert = slots.dispatch.size(2) / gate_up.size(0);
  torch::Tensor y = torch::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t slot = 0; slot < slots.dispatch.size(2); ++slot) {
      torch::Tensor mixed = torch::zeros({x.size(2)}, kF64);
      for (int64_t s = 0; s < x.size(1); ++s) mixed += slots.dispatch[b][s][slot] * x[b][s];
      const auto result = naive_expert(mixed, gate_up[slot / per_expert], down[slot / per_expert]);
      for (int64_t s = 0; s < x.size(1); ++s) y[b][s] += slots.combine[b][s][slot] * result;
    }
    for (int64_t s = 0; s < x.size(1); ++s) y[b][s] += shared_part(*layer, x[b][s]);
  }
  return y.view_as(input.x);
}

TEST(SoftMoeRouter, LayerEqualsALoopOverSlots) {
  const torch::NoGradGuard no_grad;
  for (const auto& overrides : {with({}), with({"moe.num_shared_experts=2"}), with({"moe.router.slots_per_expert=1"}),
                                with({"moe.num_experts=3", "moe.top_k=1"})}) {
    MoeLayer layer = random_moe_layer(overrides);
    const RouterInput input = random_input(3, 5);
    LocalDispatcher dispatcher;
    const auto [y, routing] = layer->forward(input, dispatcher, std::nullopt);
    EXPECT_TRUE(close(y, layer_by_slots(layer, input, *routing.slots)));
  }
}

TEST(SoftMoeRouter, Gradients) {
  MoeLayer layer = random_moe_layer(with({"moe.num_shared_experts=1"}));
  RouterInput input = random_input(2, 4);
  input.x.requires_grad_();
  LocalDispatcher dispatcher;
  Leaves leaves = leaves_of(*layer);
  leaves.emplace_back("x", input.x);
  EXPECT_TRUE(gradients_match(
      [&] {
        const auto [y, routing] = layer->forward(input, dispatcher, std::nullopt);
        return y.square().sum() + routing.probabilities.square().sum() + routing.logits.pow(3).sum() +
               routing.weights.pow(3).sum();
      },
      leaves));
}

TEST(SoftMoeRouter, SequencesDoNotMixButTheirTokensDo) {
  MoeLayer layer = random_moe_layer(with({}));
  RouterInput input = random_input(2, 5);
  LocalDispatcher dispatcher;
  const auto before = layer->forward(input, dispatcher, std::nullopt).y;
  input.x = input.x.clone();
  input.x[9].neg_();  // the last token of the second sequence
  const auto changed = layer->forward(input, dispatcher, std::nullopt).y.ne(before).any(1);
  EXPECT_TRUE(identical(changed.to(torch::kInt64), integers({0, 0, 0, 0, 0, 1, 1, 1, 1, 1})));
}

TEST(SoftMoeRouter, EqualTokensAreGivenTheSame) {
  MoeLayer layer = random_moe_layer(with({}));
  LocalDispatcher dispatcher;
  const auto [y, routing] = layer->forward({.x = torch::ones({6, 8}, kF64)}, dispatcher, std::nullopt);
  EXPECT_TRUE(close(routing.slots->dispatch, torch::full({1, 6, 12}, 1 / 6.0, kF64)));
  EXPECT_TRUE(close(y, y[0].expand({6, 8})));
}

TEST(SoftMoeRouter, TokensOfZerosStayFinite) {
  MoeLayer layer = random_moe_layer(with({}));
  RouterInput input{.x = torch::zeros({6, 8}, kF64).requires_grad_()};
  LocalDispatcher dispatcher;
  layer->forward(input, dispatcher, std::nullopt).y.sum().backward();
  EXPECT_TRUE(input.x.grad().isfinite().all().item<bool>());
}

TEST(SoftMoeRouter, EmptyBatch) { expect_empty_batch_works(with({})); }

TEST(SoftMoeRouter, SlotsByDefaultCostWhatTopKCosts) {
  const auto slots = [](const std::vector<std::string>& overrides) {
    std::vector<std::string> all = {"moe.router=soft_moe"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return *tiny_moe_config(all).moe->router.slots_per_expert;
  };
  EXPECT_EQ(slots({"training.seq_length=64"}), 32);  // 2 * 64 / 4
  EXPECT_EQ(slots({"training.seq_length=63", "moe.top_k=1"}), 16);
  EXPECT_FALSE(tiny_moe_config({"training.seq_length=64"}).moe->router.slots_per_expert);
}

TEST(SoftMoeRouter, StartsWithScaleOneAndSlotsOfTheModelsSize) {
  Transformer model(tiny_config({"moe.num_experts=4", "moe.router=soft_moe", "training.seq_length=256"}));
  model->initialise(1);
  EXPECT_TRUE(identical(parameter_of(*model, "layers.0.moe.router.scale"), torch::ones({1})));
  EXPECT_NEAR(parameter_of(*model, "layers.0.moe.router.weight").std().item<double>(), 0.4, 0.02);
}

}  // namespace
}  // namespace switchyard::test::soft_moe_router_test
