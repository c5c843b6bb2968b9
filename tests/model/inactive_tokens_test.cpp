// Tokens that are there and don't count: Mixture of Depths in evaluation.
#include "tests/support/router_layer.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

// Six tokens, of which the first four, two a sequence, count; and these four alone.
TEST(InactiveTokens, LeaveTheOthersAlone) {
  const torch::NoGradGuard no_grad;
  LocalDispatcher dispatcher;
  for (const char* policy : {"moe.drop_policy=probability", "moe.drop_policy=position"}) {
    for (const auto factor : {std::optional<double>(), std::optional(0.8)}) {
      MoeLayer layer = random_moe_layer({policy});
      const Tensor x = random_tensor({6, 8}, 20);
      const Tensor active = integers({1, 1, 1, 1, 0, 0}).to(torch::kBool);
      const auto with = layer->forward({.x = x, .active = active}, dispatcher, factor);
      // The capacity is that of the four: 0.8 * 2 * 4 / 4 are 2 places each.
      const auto alone = layer->forward({.x = x.narrow(0, 0, 4)}, dispatcher, factor);
      EXPECT_TRUE(close(with.y.narrow(0, 0, 4), alone.y));
      EXPECT_TRUE(identical(with.y.narrow(0, 4, 2), torch::zeros({2, 8}, kF64)));
      EXPECT_TRUE(identical(tokens_per_expert(with.routing), tokens_per_expert(alone.routing)));
    }
  }
}

TEST(InactiveTokens, MayBeAllOfThem) {
  const torch::NoGradGuard no_grad;
  LocalDispatcher dispatcher;
  MoeLayer layer = random_moe_layer({});
  const Tensor x = random_tensor({5, 8}, 20);
  const auto result = layer->forward({.x = x, .active = torch::zeros({5}, torch::kBool)}, dispatcher, 1.0);
  EXPECT_TRUE(identical(result.y, torch::zeros({5, 8}, kF64)));
  EXPECT_EQ(tokens_per_expert(result.routing).sum().item<int64_t>(), 0);
}

}  // namespace
}  // namespace switchyard::test
