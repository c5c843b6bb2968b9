// The hash router by place, moe.router.type random.
#include "model/moe/routers/hash_router.h"
#include "tests/support/moe_by_tokens.h"

namespace switchyard::test::random_router_test {
namespace {

std::vector<std::string> with(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), "moe.router=random");
  return overrides;
}

// A sequence of one token over and over, or of ever new ones.
RouterInput sequence(int64_t length, bool repeated) {
  const auto places = torch::arange(length, torch::TensorOptions(torch::kInt64));
  return {.x = torch::zeros({length, 8}, kF64),
          .token_ids = repeated ? torch::full({length}, 5) : places * 3,
          .positions = places};
}

double chi_square(const torch::Tensor& counts) {
  const auto wide = counts.to(kF64);
  return ((wide - wide.mean()).square() / wide.mean()).sum().item<double>();
}

TEST(RandomRouter, IsUniformOverTheExperts) {
  for (const bool repeated : {false, true}) {
    const auto routing = random_router(with({"moe.num_experts=8"}), 8)->forward(sequence(16000, repeated));
    EXPECT_LT(chi_square(tokens_per_expert(routing)), 35) << repeated;  // 7 degrees of freedom
    EXPECT_LT(chi_square(torch::bincount(routing.expert_ids.select(1, 0), {}, 8)), 35) << repeated;
    EXPECT_TRUE(routing.expert_ids.select(1, 0).ne(routing.expert_ids.select(1, 1)).all().item<bool>());
  }
}

TEST(RandomRouter, NeighboursAreIndependent) {
  const auto first = random_router(with({}), 8)->forward(sequence(16001, true)).expert_ids.select(1, 0);
  const auto pairs = first.narrow(0, 0, 16000) * 4 + first.narrow(0, 1, 16000);
  EXPECT_LT(chi_square(torch::bincount(pairs, {}, 16)), 50);  // 15 degrees of freedom
}

TEST(RandomRouter, IsAFixedFunctionOfPlaceTokenAndLayer) {
  const auto router = random_router(with({}), 8);
  const auto routing = router->forward(sequence(64, false));
  router->eval();
  torch::manual_seed(9);
  EXPECT_TRUE(identical(router->forward(sequence(64, false)).expert_ids, routing.expert_ids));
  const auto ids = [](const RouterOutput& output) { return output.expert_ids; };
  RouterInput moved = sequence(64, false);
  moved.positions = moved.positions + 1;
  EXPECT_FALSE(torch::equal(ids(router->forward(moved)), routing.expert_ids));
  RouterInput other = sequence(64, false);
  other.token_ids = other.token_ids + 1;
  EXPECT_FALSE(torch::equal(ids(router->forward(other)), routing.expert_ids));
  EXPECT_FALSE(torch::equal(ids(random_router(with({}), 8, 1)->forward(sequence(64, false))), routing.expert_ids));
}

TEST(RandomRouter, ATokenAloneHasTheExpertsItHasInItsSequence) {
  const auto router = random_router(with({}), 8);
  const RouterInput all = sequence(20, false);
  const auto expected = router->forward(all).expert_ids;
  for (int64_t t = 0; t < 20; ++t) {
    const auto one = [t](const torch::Tensor& x) { return x.narrow(0, t, 1); };
    const RouterInput alone{
        .x = one(all.x), .token_ids = one(all.token_ids), .positions = one(all.positions), .incremental = true};
    EXPECT_TRUE(identical(router->forward(alone).expert_ids, one(expected)));
  }
}

TEST(RandomRouter, WeightsAndSharesByHand) {
  const auto routing = random_router(with({}), 8)->forward(sequence(3, false));
  EXPECT_TRUE(identical(routing.weights, torch::full({3, 2}, 0.5, kF64)));
  EXPECT_TRUE(identical(routing.probabilities, torch::zeros({3, 4}, kF64).scatter_(1, routing.expert_ids, 0.5)));
}

TEST(RandomRouter, HasNoParametersAndNeedsTokensAndPositions) {
  const auto router = random_router(with({}), 8);
  EXPECT_TRUE(router->parameters().empty());
  RouterInput input = sequence(3, false);
  input.positions = torch::Tensor();
  EXPECT_THROW(router->forward(input), c10::ValueError);
  input = sequence(3, false);
  input.token_ids = torch::Tensor();
  EXPECT_THROW(router->forward(input), c10::ValueError);
}

}  // namespace
}  // namespace switchyard::test::random_router_test
