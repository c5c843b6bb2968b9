#include "ops/linear_cross_entropy.h"

#include <cmath>
#include <limits>

#include "tests/support/devices.h"
#include "tests/support/operation.h"

namespace switchyard::test::linear_cross_entropy_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Operation loss_of(const torch::Tensor& targets, bool fused, std::optional<double> softcap = std::nullopt) {
  return [=](const Tensors& x) {
    return Tensors{fused ? linear_cross_entropy(x[0], x[1], targets, softcap)
                         : linear_cross_entropy_reference(x[0], x[1], targets, softcap)};
  };
}

// As CUDA has it, in chunks of 64 tokens.
Operation loss_on_device(const torch::Tensor& targets, std::optional<double> softcap = std::nullopt) {
  return [=](const Tensors& x) { return Tensors{linear_cross_entropy_on_device(x[0], x[1], targets, softcap, 1)}; };
}

TEST(LinearCrossEntropy, HandValues) {
  // Logits are the columns of the weight: (0, ln 2, ln 3) with target 1 costs ln 6 - ln 2 = ln 3; (ln 4, 0, 0) with
  // target 0 costs ln 6 - ln 4 = ln 1.5; the third row is ignored.
  const auto weight = doubles({0, std::log(4.0), std::log(2.0), 0, std::log(3.0), 0}).view({3, 2});
  const auto hidden = doubles({1, 0, 0, 1, 7, 7}).view({3, 2}).requires_grad_();
  const auto loss = linear_cross_entropy(hidden, weight, integers({1, 0, -1}));
  EXPECT_NEAR(loss.item<double>(), std::log(4.5) / 2, 1e-14);
  loss.backward();
  // d logits / 2 = ((1, 2, 3) / 6 - (0, 1, 0)) / 2 and ((4, 1, 1) / 6 - (1, 0, 0)) / 2.
  const auto d_logits = doubles({1 / 12.0, -1 / 3.0, 1 / 4.0, -1 / 6.0, 1 / 12.0, 1 / 12.0, 0, 0, 0}).view({3, 3});
  EXPECT_TRUE(close(hidden.grad(), torch::mm(d_logits, weight)));
}

TEST(LinearCrossEntropy, GradientsByCentralDifferences) {
  EXPECT_TRUE(operation_gradients_match(loss_of(integers({1, -1, 4, 0, -100, 4}), true),
                                        {random_tensor({6, 3}, 1), random_tensor({5, 3}, 2)}));
}

TEST(LinearCrossEntropy, SoftcapByHand) {
  // Logits 2 artanh(1/2) and 0 under a cap of 2 become 1 and 0; target 0 costs ln(1 + e^-1). Its gradient is
  // (e / (e + 1) - 1) (1 - 1/4) in the first logit and 1 / (e + 1) in the second, whose slope is 1.
  const auto hidden = doubles({1}).view({1, 1}).requires_grad_();
  const auto weight = doubles({2 * std::atanh(0.5), 0}).view({2, 1}).requires_grad_();
  const auto loss = linear_cross_entropy(hidden, weight, integers({0}), 2.0);
  EXPECT_NEAR(loss.item<double>(), std::log1p(std::exp(-1.0)), 1e-14);
  loss.backward();
  const double other = 1 / (std::exp(1.0) + 1);
  EXPECT_TRUE(close(weight.grad(), doubles({-other * 0.75, other}).view({2, 1})));
  EXPECT_NEAR(hidden.grad().item<double>(), -other * 0.75 * 2 * std::atanh(0.5), 1e-14);
}

TEST(LinearCrossEntropy, SoftcapGradientsByCentralDifferences) {
  EXPECT_TRUE(operation_gradients_match(loss_of(integers({1, -1, 4, 0, -100, 4}), true, 1.5),
                                        {random_tensor({6, 3}, 1), random_tensor({5, 3}, 2)}));
}

TEST(LinearCrossEntropy, SeveralChunks) {
  // 4 Mi / 50,000 logits: 83 tokens a chunk, so three chunks, the last a short one.
  constexpr int64_t kVocab = 50000, kTokens = 170;
  torch::Tensor targets = random_integers(kVocab, {kTokens}, 3);
  targets[5] = -1;
  targets[169] = -1;
  const Tensors inputs = {random_tensor({kTokens, 3}, 1), random_tensor({kVocab, 3}, 2)};
  // In float64: sums over so large a vocabulary show the matrix product's own rounding in float32.
  EXPECT_TRUE(fused_matches_reference(loss_of(targets, true), loss_of(targets, false), inputs, kF64));
  EXPECT_TRUE(fused_matches_reference(loss_of(targets, true, 2.0), loss_of(targets, false, 2.0), inputs, kF64));
}

class LinearCrossEntropyTypes : public ::testing::TestWithParam<torch::ScalarType> {};

TEST_P(LinearCrossEntropyTypes, MatchesTheReference) {
  for (const int64_t vocab : {1, 7, 33, 257}) {
    torch::Tensor targets = random_integers(vocab, {19}, 3);
    targets[4] = -1;
    for (const int64_t dim : {1, 7, 33}) {
      const Tensors inputs = {random_tensor({19, dim}, 1), random_tensor({vocab, dim}, 2) * 0.3};
      EXPECT_TRUE(fused_matches_reference(loss_of(targets, true), loss_of(targets, false), inputs, GetParam()))
          << "V = " << vocab << ", D = " << dim;
    }
  }
}

TEST_P(LinearCrossEntropyTypes, ChunksOnADeviceMatchTheReference) {
  for (const int64_t tokens : {1, 64, 150}) {
    torch::Tensor targets = random_integers(33, {tokens}, 3);
    if (tokens > 1) targets[4] = -1;
    const Tensors inputs = {random_tensor({tokens, 7}, 1), random_tensor({33, 7}, 2)};
    for (const std::optional<double> cap : {std::optional<double>(), std::optional<double>(3.0)}) {
      EXPECT_TRUE(
          fused_matches_reference(loss_on_device(targets, cap), loss_of(targets, false, cap), inputs, GetParam()))
          << tokens;
    }
  }
  const auto none = results_and_gradients(loss_on_device(integers({-1, -7})),
                                          {random_tensor({2, 7}, 1, GetParam()), random_tensor({3, 7}, 2, GetParam())});
  for (const auto& t : none) EXPECT_TRUE(t.eq(0).all().item<bool>());
}

TEST_P(LinearCrossEntropyTypes, SameOnCuda) {
  SWITCHYARD_NEEDS(torch::kCUDA);
  const torch::Tensor targets = random_integers(33, {150}, 3);
  const Tensors inputs = {random_tensor({150, 7}, 1, GetParam()), random_tensor({33, 7}, 2, GetParam())};
  const Tensors expected = results_and_gradients(loss_of(targets, true), inputs);
  const Tensors actual = results_and_gradients(
      [&](const Tensors& x) {
        return Tensors{linear_cross_entropy(x[0].to(torch::kCUDA), x[1].to(torch::kCUDA), targets.cuda()).cpu()};
      },
      inputs);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(close(actual[i], expected[i], GetParam())) << i;
}

TEST_P(LinearCrossEntropyTypes, SoftcapMatchesTheReference) {
  torch::Tensor targets = random_integers(33, {19}, 3);
  targets[4] = -1;
  const Tensors inputs = {random_tensor({19, 7}, 1), random_tensor({33, 7}, 2)};
  for (const double cap : {0.5, 3.0, 30.0}) {
    EXPECT_TRUE(fused_matches_reference(loss_of(targets, true, cap), loss_of(targets, false, cap), inputs, GetParam()))
        << cap;
  }
}

// One micro-batch of three has a third of a step's loss: not what is left of a third in bfloat16, 0.18 % more.
TEST_P(LinearCrossEntropyTypes, AShareOfTheLossIsRoundedOnce) {
  const auto targets = integers({3, 0, 9, 4, 1});
  for (const int64_t micro_batches : {3, 5, 7}) {
    const auto share = 1 / torch::full({}, micro_batches, GetParam() == kF64 ? kF64 : kF32);
    const Tensors inputs = {random_tensor({5, 8}, 1).to(GetParam()), random_tensor({10, 8}, 2).to(GetParam())};
    const auto gradients_of = [&](bool shared) {
      const Tensors x = {inputs[0].clone().requires_grad_(), inputs[1].clone().requires_grad_()};
      const auto loss = linear_cross_entropy(x[0], x[1], targets);
      return torch::autograd::grad({shared ? loss * share : loss}, x);
    };
    const auto whole = gradients_of(false), part = gradients_of(true);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_TRUE(identical(part[i], (whole[i].to(share.scalar_type()) * share).to(GetParam())));
    }
  }
}

TEST_P(LinearCrossEntropyTypes, TakesStridedInputs) {
  const auto hidden = random_tensor({5, 7}, 1, GetParam());
  const auto weight = random_tensor({9, 7}, 2, GetParam());
  const auto targets = integers({0, 8, 3, -1, 2});
  EXPECT_TRUE(close(linear_cross_entropy(with_gaps(hidden), with_gaps(weight), with_gaps(targets)),
                    linear_cross_entropy(hidden, weight, targets), GetParam()));
}

TEST_P(LinearCrossEntropyTypes, LargeLogits) {
  // One-hot rows of hidden pick columns of the weight, so that logits of +-80 are exact in every type.
  const auto weight = doubles({80, -80, 0, -80, 80, 0, -80, -80, 1, 80, 80, 0}).view({4, 3});
  const auto hidden = torch::eye(3, kF64);
  for (const auto& targets : {integers({0, 1, 2}), integers({1, 0, 3}), integers({3, 3, 2})}) {
    EXPECT_TRUE(fused_matches_reference(loss_of(targets, true), loss_of(targets, false), {hidden, weight}, GetParam()));
  }
}

TEST_P(LinearCrossEntropyTypes, NoTargetIsNoLoss) {
  const auto targets = integers({-1, -1});
  for (const bool fused : {true, false}) {
    const auto all = results_and_gradients(
        loss_of(targets, fused), {random_tensor({2, 7}, 1, GetParam()), random_tensor({3, 7}, 2, GetParam())});
    for (const auto& t : all) EXPECT_TRUE(t.eq(0).all().item<bool>());
  }
}

TEST_P(LinearCrossEntropyTypes, NanStaysVisible) {
  for (const int64_t at : {0, 8}) {  // the first logit, and another
    torch::Tensor weight = random_tensor({9, 7}, 2, GetParam());
    weight[at][3].fill_(kNan);
    const auto all =
        results_and_gradients(loss_of(integers({1, 2, -1}), true), {random_tensor({3, 7}, 1, GetParam()), weight});
    EXPECT_TRUE(all[0].isnan().item<bool>());
    EXPECT_TRUE(all[1].narrow(0, 0, 2).isnan().all().item<bool>());
    EXPECT_TRUE(all[2].isnan().all().item<bool>());
  }
}

TEST_P(LinearCrossEntropyTypes, LossWithoutGradientIsTheSame) {
  const auto hidden = random_tensor({5, 7}, 1, GetParam());
  const auto weight = random_tensor({9, 7}, 2, GetParam()).requires_grad_();
  const auto targets = integers({0, 8, 3, -1, 2});
  const auto with = linear_cross_entropy(hidden, weight, targets);
  const torch::NoGradGuard no_grad;
  const auto without = linear_cross_entropy(hidden, weight, targets);
  EXPECT_FALSE(without.requires_grad());
  EXPECT_TRUE(torch::equal(with, without));
  EXPECT_EQ(without.scalar_type(), GetParam() == kF64 ? kF64 : kF32);
}

INSTANTIATE_TEST_SUITE_P(Types, LinearCrossEntropyTypes, ::testing::Values(kF32, kBf16, kF64));

TEST(LinearCrossEntropy, RefusesWhatDoesNotFit) {
  const auto hidden = random_tensor({2, 3}, 1);
  const auto weight = random_tensor({4, 3}, 2);
  EXPECT_THROW(linear_cross_entropy(hidden, weight, integers({1})), c10::ValueError);
  EXPECT_THROW(linear_cross_entropy(hidden, random_tensor({4, 2}, 2), integers({1, 2})), c10::ValueError);
  EXPECT_THROW(linear_cross_entropy(hidden, weight, integers({1, 4})), c10::IndexError);  // beyond the vocabulary
}

}  // namespace
}  // namespace switchyard::test::linear_cross_entropy_test
