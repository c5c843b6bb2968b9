#include "ops/rms_norm.h"

#include "tests/support/operation.h"

namespace switchyard::test::rms_norm_test {
namespace {

constexpr double kEps = 1e-5;

const Operation kFused = [](const Tensors& x) { return Tensors{rms_norm(x[0], x[1], kEps)}; };
const Operation kReference = [](const Tensors& x) { return Tensors{rms_norm_reference(x[0], x[1], kEps)}; };

TEST(RmsNorm, HandValues) {
  // mean(x^2) = (9 + 16) / 2 = 12.5; with eps 12.5 the root is 5.
  const auto y = rms_norm(doubles({3, 4}).view({1, 2}), doubles({1, 2}), 12.5);
  EXPECT_TRUE(close(y, doubles({0.6, 1.6}).view({1, 2})));
}

TEST(RmsNorm, GradientsByCentralDifferences) {
  EXPECT_TRUE(operation_gradients_match(kFused, {random_tensor({2, 3, 7}, 1), random_tensor({7}, 2)}));
  EXPECT_TRUE(operation_gradients_match(kFused, {random_tensor({5, 1}, 3), random_tensor({1}, 4)}, {.relative = 1e-5}));
}

class RmsNormTypes : public ::testing::TestWithParam<torch::ScalarType> {};

TEST_P(RmsNormTypes, MatchesTheReferenceAtAllWidths) {
  for (const int64_t dim : {1, 7, 33, 256}) {
    // Of one value only its sign would be left, if eps did not matter beside it.
    const auto x = random_tensor({3, 5, dim}, 1) * (dim == 1 ? 0.003 : 1.0);
    EXPECT_TRUE(fused_matches_reference(kFused, kReference, {x, random_tensor({dim}, 2)}, GetParam())) << "D = " << dim;
  }
}

TEST_P(RmsNormTypes, TakesStridedInputs) {
  const Tensors inputs = {random_tensor({33, 6}, 1).to(GetParam()).t(), random_tensor({33}, 2).to(GetParam())};
  const Tensors gaps = {with_gaps(inputs[0]), with_gaps(inputs[1])};
  ASSERT_FALSE(gaps[0].is_contiguous());
  EXPECT_TRUE(fused_matches_reference(kFused, kReference, inputs, GetParam()));
  EXPECT_TRUE(identical(kFused(gaps)[0], kFused(inputs)[0]));
}

TEST_P(RmsNormTypes, ZeroRowsAndLargeValues) {
  torch::Tensor x = random_tensor({4, 33}, 1);
  x[1].zero_();
  x[2].mul_(1e8);
  x[3].mul_(1e-8);
  const auto weight = random_tensor({33}, 2);
  const auto y = rms_norm(x.to(GetParam()), weight.to(GetParam()), kEps);
  EXPECT_TRUE(y[1].eq(0).all().item<bool>());
  for (int64_t row = 0; row < 4; ++row) {  // by rows: their sizes differ
    EXPECT_TRUE(fused_matches_reference(kFused, kReference, {x.narrow(0, row, 1), weight}, GetParam())) << row;
  }
}

TEST_P(RmsNormTypes, NoRows) {
  const auto all = results_and_gradients(kFused, {random_tensor({0, 7}, 1, GetParam()), random_tensor({7}, 2)});
  EXPECT_EQ(all[0].numel(), 0);
  EXPECT_TRUE(all[2].eq(0).all().item<bool>());
}

TEST_P(RmsNormTypes, NanStaysVisible) {
  torch::Tensor x = random_tensor({3, 33}, 1, GetParam());
  x[1][32].fill_(std::numeric_limits<double>::quiet_NaN());
  const auto all = results_and_gradients(kFused, {x, random_tensor({33}, 2)});
  EXPECT_TRUE(all[0][1].isnan().all().item<bool>());
  EXPECT_FALSE(all[0][0].isnan().any().item<bool>());
  EXPECT_FALSE(all[0][2].isnan().any().item<bool>());
  EXPECT_TRUE(all[1][1].isnan().all().item<bool>());
  EXPECT_TRUE(all[2].isnan().all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Types, RmsNormTypes, ::testing::Values(kF32, kBf16, kF64));

TEST(RmsNorm, WeightGradientDoesNotDependOnTheNumberOfThreads) {
  const Tensors inputs = {random_tensor({1000, 67}, 1, kF32), random_tensor({67}, 2, kF32)};
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Tensors one = results_and_gradients(kFused, inputs);
  at::set_num_threads(2);
  const Tensors two = results_and_gradients(kFused, inputs);
  at::set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(torch::equal(one[i], two[i])) << i;
}

TEST(RmsNorm, RefusesAWeightOfAnotherWidth) {
  EXPECT_THROW(rms_norm(random_tensor({2, 4}, 1), random_tensor({3}, 2), kEps), c10::ValueError);
}

}  // namespace
}  // namespace switchyard::test::rms_norm_test
