#include "ops/permutation.h"

#include <limits>

#include "tests/support/operation.h"

namespace switchyard::test::permutation_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

torch::Tensor kept_of(const std::vector<int64_t>& values, int64_t top_k) {
  return integers(values).view({-1, top_k}).to(torch::kBool);
}

// 3 tokens with 2 choices among 4 experts; expert 3 is empty, token 1's first choice is dropped.
ExpertOrder hand_order() {
  return order_by_expert(integers({1, 0, 0, 2, 1, 0}).view({3, 2}), 4, kept_of({1, 1, 0, 1, 1, 1}, 2));
}

ExpertOrder random_order(int64_t tokens, int64_t experts, int64_t top_k, bool drops) {
  const auto ids = std::get<1>(random_tensor({tokens, experts}, 5).topk(top_k));
  return order_by_expert(ids, experts, drops ? random_tensor({tokens, top_k}, 6) > -0.5 : torch::Tensor());
}

Operation permuting(const ExpertOrder& order, bool fused) {
  return [=](const Tensors& x) {
    return Tensors{fused ? permute_tokens(x[0], order) : permute_tokens_reference(x[0], order)};
  };
}

// Weights keep float32 beside bfloat16 rows, as routers give them.
Operation combining(const ExpertOrder& order, bool fused) {
  return [=](const Tensors& x) {
    const auto weights = x[1].to(x[0].scalar_type() == kF64 ? kF64 : kF32);
    return Tensors{fused ? combine_tokens(x[0], weights, order) : combine_tokens_reference(x[0], weights, order)};
  };
}

TEST(ExpertOrder, ByHand) {
  // Choices in order go to experts 1, 0, dropped, 2, 1, 0: expert 0 gets choices 1 and 5, expert 1 gets 0 and 4, ...
  const ExpertOrder order = hand_order();
  EXPECT_TRUE(identical(order.offsets, integers({2, 4, 5, 5})));
  EXPECT_TRUE(identical(order.choice_of_row, integers({1, 5, 0, 4, 3})));
  EXPECT_TRUE(identical(order.row_of_choice, integers({2, 0, -1, 4, 3, 1}).view({3, 2})));
  EXPECT_EQ(order.num_rows, 5);
}

TEST(ExpertOrder, NothingDropped) {
  const ExpertOrder order = order_by_expert(integers({2, 0, 2}).view({3, 1}), 3);
  EXPECT_TRUE(identical(order.offsets, integers({1, 1, 3})));
  EXPECT_TRUE(identical(order.choice_of_row, integers({1, 0, 2})));
  EXPECT_TRUE(identical(order.row_of_choice, integers({1, 0, 2}).view({3, 1})));
  EXPECT_EQ(order.num_rows, 3);
}

TEST(ExpertOrder, EverythingDroppedAndNoTokens) {
  const ExpertOrder none = order_by_expert(integers({1, 0}).view({1, 2}), 2, kept_of({0, 0}, 2));
  EXPECT_EQ(none.num_rows, 0);
  EXPECT_TRUE(identical(none.row_of_choice, integers({-1, -1}).view({1, 2})));
  EXPECT_TRUE(identical(none.offsets, integers({0, 0})));
  EXPECT_EQ(order_by_expert(torch::empty({0, 2}, torch::kInt64), 2).num_rows, 0);
}

TEST(ExpertOrder, TakesStridedChoices) {
  const auto ids = integers({1, 0, 0, 2, 1, 0}).view({2, 3}).t();
  const ExpertOrder strided = order_by_expert(ids, 3, (ids > 0).t().contiguous().t());
  const ExpertOrder plain = order_by_expert(ids.contiguous(), 3, (ids > 0).contiguous());
  EXPECT_TRUE(torch::equal(strided.row_of_choice, plain.row_of_choice));
  EXPECT_TRUE(torch::equal(strided.choice_of_row, plain.choice_of_row));
}

TEST(ExpertOrder, RefusesExpertsThatAreNot) {
  EXPECT_THROW(order_by_expert(integers({0, 2}).view({1, 2}), 2), c10::IndexError);
  EXPECT_THROW(order_by_expert(integers({0, -1}).view({1, 2}), 2), c10::IndexError);
}

TEST(ExpertOrder, AlignmentByHand) {
  // Doubled up to 64 while sixteen times as many rows for every expert are not more than the choices.
  EXPECT_EQ(row_alignment(47, 3), 1);
  EXPECT_EQ(row_alignment(48, 3), 2);
  EXPECT_EQ(row_alignment(200, 3), 8);
  EXPECT_EQ(row_alignment(1 << 20, 8), 64);
}

TEST(ExpertOrder, PaddedExpertsKeepEveryChoiceOnce) {
  for (const bool drops : {false, true}) {
    const ExpertOrder order = random_order(100, 3, 2, drops);  // rows in eights
    ASSERT_EQ(order.choice_of_row.numel(), order.num_rows);
    std::vector<int64_t> rows;
    for (int64_t row = 0; row < order.num_rows; ++row) {
      const int64_t choice = order.choice_of_row[row].item<int64_t>();
      if (choice < 0) continue;
      EXPECT_EQ(order.row_of_choice.flatten()[choice].item<int64_t>(), row);
      rows.push_back(row);
    }
    EXPECT_EQ(static_cast<int64_t>(rows.size()), order.row_of_choice.ge(0).sum().item<int64_t>());
    EXPECT_LT(static_cast<int64_t>(rows.size()), order.num_rows) << "choose a seed that needs padding";
    EXPECT_TRUE((order.offsets % 8).eq(0).all().item<bool>());
    EXPECT_EQ(order.offsets[2].item<int64_t>(), order.num_rows);
  }
}

TEST(PermuteTokens, PaddingIsZero) {
  const ExpertOrder order = random_order(100, 3, 2, true);
  const auto x = random_tensor({100, 5}, 1);
  const auto rows = permute_tokens(x, order);
  const auto padding = order.choice_of_row < 0;
  EXPECT_TRUE(identical(rows.ne(0).any(1), padding.logical_not()));
}

TEST(PermuteTokens, ByHand) {
  const auto rows = permute_tokens(doubles({10, 20, 30}).view({3, 1}), hand_order());
  EXPECT_TRUE(identical(rows.flatten(), doubles({10, 30, 10, 30, 20})));
}

TEST(CombineTokens, ByHand) {
  // y0 = 0.5 * row 2 + 0.25 * row 0; y1 = 1 * row 4, its first choice dropped; y2 = 0.1 * row 3 + 0.2 * row 1.
  const auto weights = doubles({0.5, 0.25, 9, 1, 0.1, 0.2}).view({3, 2});
  const auto y = combine_tokens(doubles({1, 2, 3, 4, 5}).view({5, 1}), weights, hand_order());
  EXPECT_TRUE(close(y.flatten(), doubles({1.75, 5, 0.8})));
}

TEST(Permutation, GradientsByCentralDifferences) {
  const ExpertOrder order = random_order(6, 4, 3, /*drops=*/true);
  ASSERT_LT(order.num_rows, 18);
  EXPECT_TRUE(operation_gradients_match(permuting(order, true), {random_tensor({6, 5}, 1)}));
  EXPECT_TRUE(operation_gradients_match(combining(order, true),
                                        {random_tensor({order.num_rows, 5}, 1), random_tensor({6, 3}, 2)}));
  const ExpertOrder padded = random_order(40, 3, 2, /*drops=*/true);
  ASSERT_TRUE(padded.choice_of_row.lt(0).any().item<bool>());
  EXPECT_TRUE(operation_gradients_match(permuting(padded, true), {random_tensor({40, 2}, 1)}));
  EXPECT_TRUE(operation_gradients_match(combining(padded, true),
                                        {random_tensor({padded.num_rows, 2}, 1), random_tensor({40, 2}, 2)}));
}

TEST(CombineTokens, DroppedChoicesGetNoGradient) {
  const ExpertOrder order = hand_order();
  const auto all = results_and_gradients(combining(order, true), {random_tensor({5, 3}, 1), random_tensor({3, 2}, 2)});
  EXPECT_EQ(all[2][1][0].item<double>(), 0);
  EXPECT_EQ(all[2].ne(0).sum().item<int64_t>(), 5);
}

class PermutationTypes : public ::testing::TestWithParam<torch::ScalarType> {};

TEST_P(PermutationTypes, MatchesTheReference) {
  constexpr int64_t kTokens = 90;  // rows in fours: some are padding
  for (const int64_t dim : {1, 7, 33, 256, 300}) {
    for (const bool drops : {false, true}) {
      const ExpertOrder order = random_order(kTokens, 5, 2, drops);
      EXPECT_TRUE(fused_matches_reference(permuting(order, true), permuting(order, false),
                                          {random_tensor({kTokens, dim}, 1)}, GetParam()));
      EXPECT_TRUE(fused_matches_reference(combining(order, true), combining(order, false),
                                          {random_tensor({order.num_rows, dim}, 1), random_tensor({kTokens, 2}, 2)},
                                          GetParam()));
    }
  }
}

TEST_P(PermutationTypes, TakesStridedInputs) {
  const ExpertOrder order = random_order(9, 5, 2, true);
  const auto rows = random_tensor({order.num_rows, 7}, 1, GetParam());
  const auto weights = random_tensor({9, 2}, 2, GetParam());
  const auto operation = combining(order, true);
  EXPECT_TRUE(identical(operation({with_gaps(rows), with_gaps(weights)})[0], operation({rows, weights})[0]));
  const auto x = random_tensor({9, 7}, 3, GetParam());
  EXPECT_TRUE(identical(permute_tokens(with_gaps(x), order), permute_tokens(x, order)));
}

TEST_P(PermutationTypes, EverythingDropped) {
  const ExpertOrder order = order_by_expert(integers({1, 0}).view({1, 2}), 2, kept_of({0, 0}, 2));
  const auto x = random_tensor({1, 7}, 1, GetParam()).requires_grad_();
  const auto weights = random_tensor({1, 2}, 2).to(GetParam() == kF64 ? kF64 : kF32).requires_grad_();
  const auto y = combine_tokens(permute_tokens(x, order), weights, order);
  EXPECT_TRUE(y.eq(0).all().item<bool>());
  y.sum().backward();
  EXPECT_TRUE(x.grad().eq(0).all().item<bool>());
  EXPECT_TRUE(weights.grad().eq(0).all().item<bool>());
}

TEST_P(PermutationTypes, NanStaysVisibleWhereItBelongs) {
  const ExpertOrder order = hand_order();
  torch::Tensor rows = random_tensor({5, 7}, 1, GetParam());
  rows[3].fill_(kNan);  // token 2's first choice
  const auto y = combining(order, true)({rows, random_tensor({3, 2}, 2)})[0];
  EXPECT_TRUE(y[2].isnan().all().item<bool>());
  EXPECT_FALSE(y.narrow(0, 0, 2).isnan().any().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Types, PermutationTypes, ::testing::Values(kF32, kBf16, kF64));

}  // namespace
}  // namespace switchyard::test::permutation_test
