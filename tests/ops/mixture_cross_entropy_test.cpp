#include "ops/mixture_cross_entropy.h"

#include <cmath>

#include "ops/linear_cross_entropy.h"
#include "tests/support/operation.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

// One token of a vocabulary of two, two experts with p = (1/4, 3/4) that give the target 1 probabilities 3/4 and 1/2.
struct HandCase {
  Tensor weight = doubles({0, 1}).view({2, 1});
  Tensor hidden = doubles({std::log(3.0), 0}).view({2, 1, 1}).requires_grad_();
  Tensor gate = doubles({0, std::log(3.0)}).view({1, 2}).requires_grad_();
  Tensor loss() const { return mixture_cross_entropy(hidden, gate, weight, integers({1})); }
};

TEST(MixtureCrossEntropy, ByHand) {
  // P(target) = 1/4 3/4 + 3/4 1/2 = 9/16.
  const HandCase hand;
  EXPECT_NEAR(hand.loss().item<double>(), -std::log(9 / 16.0), 1e-15);
  const Tensor both = mixture_log_probabilities(hand.hidden, hand.gate, hand.weight);
  EXPECT_TRUE(close(both.exp(), doubles({7 / 16.0, 9 / 16.0}).view({1, 2})));
}

TEST(MixtureCrossEntropy, TheGradientIsThePosteriorByHand) {
  // h = (3/16, 6/16) / (9/16) = (1/3, 2/3). For the gate p - h; for an expert h_i times its own cross-entropy's
  // gradient in the logit of the target, P_i - 1 = -1/4 and -1/2.
  const HandCase hand;
  hand.loss().backward();
  EXPECT_TRUE(close(hand.gate.grad().flatten(), doubles({1 / 4.0 - 1 / 3.0, 3 / 4.0 - 2 / 3.0})));
  EXPECT_TRUE(close(hand.hidden.grad().flatten(), doubles({-1 / 12.0, -1 / 3.0})));
}

TEST(MixtureCrossEntropy, GradientsByCentralDifferences) {
  for (const std::optional<double> softcap : {std::optional<double>(), std::optional<double>(1.5)}) {
    const Operation operation = [&](const Tensors& x) {
      return Tensors{mixture_cross_entropy(x[0], x[1], x[2], integers({1, -1, 4, 0, -100, 4}), softcap)};
    };
    EXPECT_TRUE(operation_gradients_match(
        operation, {random_tensor({3, 6, 4}, 1), random_tensor({6, 3}, 2), random_tensor({5, 4}, 3)}));
  }
}

TEST(MixtureCrossEntropy, IsTheLogarithmOfTheMixtureAtTheTarget) {
  const Tensor hidden = random_tensor({3, 6, 4}, 1);
  const Tensor gate = random_tensor({6, 3}, 2);
  const Tensor weight = random_tensor({5, 4}, 3);
  const Tensor targets = integers({1, -1, 4, 0, -100, 4});
  const Tensor all = mixture_log_probabilities(hidden, gate, weight, 1.5);
  EXPECT_TRUE(close(all.exp().sum(1), torch::ones({6}, kF64)));
  double sum = 0;
  for (const int64_t t : {0, 2, 3, 5}) sum -= all[t][targets[t].item<int64_t>()].item<double>();
  EXPECT_NEAR(mixture_cross_entropy(hidden, gate, weight, targets, 1.5).item<double>(), sum / 4, 1e-14);
  EXPECT_EQ(mixture_cross_entropy(hidden, gate, weight, torch::full({6}, -1), 1.5).item<double>(), 0);
}

TEST(MixtureCrossEntropy, ExpertsThatAgreeAreOnePrediction) {
  const Tensor hidden = random_tensor({6, 4}, 1);
  const Tensor weight = random_tensor({5, 4}, 3);
  const Tensor targets = integers({1, 2, 4, 0, 3, 4});
  const Tensor expected = linear_cross_entropy(hidden, weight, targets);
  const Tensor same = hidden.expand({3, 6, 4});
  EXPECT_TRUE(close(mixture_cross_entropy(same, random_tensor({6, 3}, 2), weight, targets), expected));
  // A gate that is sure of the second expert hears nobody else.
  const Tensor others = torch::stack({random_tensor({6, 4}, 7), hidden, random_tensor({6, 4}, 8)});
  const Tensor sure = doubles({0, 1e4, 0}).expand({6, 3});
  EXPECT_TRUE(close(mixture_cross_entropy(others, sure, weight, targets), expected));
}

TEST(MixtureCrossEntropy, ImpossibleTargetsAreFiniteWithoutGradientsThatAreNot) {
  // Both experts give the target e^-2000, far below what a double holds.
  const Tensor hidden = doubles({-2000, -2000}).view({2, 1, 1}).requires_grad_();
  const Tensor weight = doubles({0, 1}).view({2, 1});
  const Tensor loss = mixture_cross_entropy(hidden, torch::zeros({1, 2}, kF64), weight, integers({1}));
  EXPECT_DOUBLE_EQ(loss.item<double>(), 2000);
  loss.backward();
  EXPECT_TRUE(close(hidden.grad().flatten(), doubles({-0.5, -0.5})));
}

TEST(MixtureCrossEntropy, LowPrecisionIsNearTheWideOne) {
  const Tensor hidden = random_tensor({3, 40, 16}, 1);
  const Tensor gate = random_tensor({40, 3}, 2);
  const Tensor weight = random_tensor({50, 16}, 3);
  const Tensor targets = random_integers(50, {40}, 4);
  const double expected = mixture_cross_entropy(hidden, gate, weight, targets).item<double>();
  const Tensor low = mixture_cross_entropy(hidden.to(kBf16), gate.to(kF32), weight.to(kF32), targets);
  EXPECT_EQ(low.scalar_type(), kF32);
  EXPECT_NEAR(low.item<double>(), expected, 0.02 * expected);
}

TEST(MixtureCrossEntropy, ShapesThatDoNotFit) {
  EXPECT_THROW(mixture_cross_entropy(random_tensor({3, 6, 4}, 1), random_tensor({6, 2}, 2), random_tensor({5, 4}, 3),
                                     random_integers(5, {6}, 4)),
               c10::ValueError);
}

}  // namespace
}  // namespace switchyard::test
