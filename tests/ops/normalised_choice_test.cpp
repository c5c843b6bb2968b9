#include "ops/normalised_choice.h"

#include "tests/support/operation.h"

namespace switchyard::test::normalised_choice_test {
namespace {

using torch::Tensor;

const Tensor kIds = torch::tensor({{2, 0}, {1, 3}, {3, 2}}, torch::kInt64);
const Operation kFused = [](const Tensors& x) { return Tensors{normalised_choice(x[0], kIds)}; };
const Operation kReference = [](const Tensors& x) { return Tensors{normalised_choice_reference(x[0], kIds)}; };

TEST(NormalisedChoice, ByHand) {
  const Tensor shares = torch::tensor({{0.5, 0.2, 0.3}}, kF64);
  EXPECT_TRUE(
      close(normalised_choice(shares, torch::tensor({{2, 1}}, torch::kInt64)), doubles({0.6, 0.4}).view({1, 2})));
}

TEST(NormalisedChoice, MatchesTheReference) {
  const Tensor shares = torch::softmax(random_tensor({3, 4}, 1), -1);
  for (const auto type : {kF32, kF64}) EXPECT_TRUE(fused_matches_reference(kFused, kReference, {shares}, type));
  EXPECT_TRUE(operation_gradients_match(kFused, {shares}));
  // As a router with many tokens calls it, over several threads.
  const Tensor many = torch::softmax(random_tensor({5000, 8}, 2, kF32), -1);
  const Tensor ids = many.argsort(int64_t{1}).narrow(1, 3, 5);
  EXPECT_TRUE(close(normalised_choice(many, ids), normalised_choice_reference(many, ids)));
}

TEST(NormalisedChoice, RefusesExpertsThatAreNotThere) {
  EXPECT_THROW(normalised_choice(torch::ones({1, 3}), torch::tensor({{0, 3}}, torch::kInt64)), c10::IndexError);
  EXPECT_THROW(normalised_choice(torch::ones({1, 3}), torch::tensor({{-1, 2}}, torch::kInt64)), c10::IndexError);
}

}  // namespace
}  // namespace switchyard::test::normalised_choice_test
