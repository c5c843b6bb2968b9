#include "ops/grouped_mlp.h"

#include <cmath>
#include <limits>

#include "tests/support/devices.h"
#include "tests/support/operation.h"

namespace switchyard::test::grouped_mlp_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// x, up, down and, if there are five inputs, both biases.
Operation grouped(const std::vector<int64_t>& offsets, bool fused, Activation activation = Activation::kSwiGlu) {
  return [offsets = integers(offsets), fused, activation](const Tensors& x) {
    MlpWeights weights{.up = x[1], .down = x[2]};
    if (x.size() == 5) {
      weights.up_bias = x[3];
      weights.down_bias = x[4];
    }
    return Tensors{fused ? grouped_mlp(x[0], offsets, weights, activation)
                         : grouped_mlp_reference(x[0], offsets, weights, activation)};
  };
}

Tensors random_inputs(int64_t rows, int64_t experts, int64_t hidden, int64_t width,
                      Activation activation = Activation::kSwiGlu, bool bias = false) {
  const int64_t up = is_gated(activation) ? 2 * width : width;
  Tensors x = {random_tensor({rows, hidden}, 1), random_tensor({experts, up, hidden}, 2) * 0.5,
               random_tensor({experts, hidden, width}, 3) * 0.5};
  if (bias) {
    x.push_back(random_tensor({experts, up}, 4) * 0.2);
    x.push_back(random_tensor({experts, hidden}, 5) * 0.2);
  }
  return x;
}

TEST(GroupedMlp, HandValues) {
  // One expert, D = 2, F = 1: gate . x = 1, up . x = 2, silu(1) = 1 / (1 + e^-1) = 0.7310585786300049.
  const auto y = grouped({1}, true)(
      {doubles({1, 2}).view({1, 2}), doubles({1, 0, 0, 1}).view({1, 2, 2}), doubles({2, 3}).view({1, 2, 1})})[0];
  EXPECT_TRUE(close(y, doubles({4 * 0.7310585786300049, 6 * 0.7310585786300049}).view({1, 2})));
}

TEST(GroupedMlp, HandValuesOfOtherActivations) {
  // Two experts, D = 1, F = 1, one row each: x = 1 and 2; up maps 2 and -3 with biases 1 and 4, so h = 3 and -2; the
  // down maps are 5 and 7, their biases 0.5 and 0.25. gelu(3) = 1.5 (1 + tanh(0.79788456 * (3 + 0.044715 * 27))).
  const auto x = doubles({1, 2}).view({2, 1}), down = doubles({5, 7}).view({2, 1, 1});
  const auto down_bias = doubles({0.5, 0.25}).view({2, 1});
  const Tensors plain = {x, doubles({2, -3}).view({2, 1, 1}), down, doubles({1, 4}).view({2, 1}), down_bias};
  EXPECT_TRUE(close(grouped({1, 2}, true, Activation::kRelu)(plain)[0], doubles({15.5, 0.25}).view({2, 1})));
  const double root = std::sqrt(2 / 3.141592653589793);
  const double gelu3 = 1.5 * (1 + std::tanh(root * (3 + 0.044715 * 27)));
  const double gelu_2 = -1 * (1 + std::tanh(root * (-2 - 0.044715 * 8)));
  EXPECT_NEAR(gelu3, 2.99636, 1e-5);
  EXPECT_NEAR(gelu_2, -0.0454023, 1e-6);
  EXPECT_TRUE(close(grouped({1, 2}, true, Activation::kGelu)(plain)[0],
                    doubles({5 * gelu3 + 0.5, 7 * gelu_2 + 0.25}).view({2, 1})));
  // Gates as h above, ups 10 x + 1 = 11 and 10 x + 2 = 22.
  const Tensors gated = {x, doubles({2, 10, -3, 10}).view({2, 2, 1}), down, doubles({1, 1, 4, 2}).view({2, 2}),
                         down_bias};
  EXPECT_TRUE(close(grouped({1, 2}, true, Activation::kGeGlu)(gated)[0],
                    doubles({5 * gelu3 * 11 + 0.5, 7 * gelu_2 * 22 + 0.25}).view({2, 1})));
}

constexpr Activation kActivations[] = {Activation::kSwiGlu, Activation::kGeGlu, Activation::kGelu, Activation::kRelu};

TEST(GroupedMlp, GradientsOfActivationsAndBiases) {
  for (const Activation activation : kActivations) {
    for (const bool bias : {false, true}) {
      EXPECT_TRUE(operation_gradients_match(grouped({0, 4, 4, 5, 5}, true, activation),
                                            random_inputs(6, 5, 4, 3, activation, bias)))
          << static_cast<int>(activation) << bias;
    }
  }
}

// ATen's CPU has grouped products too, also in float32: of whole 16 bytes a row.
TEST(GroupedMlp, ByGroupedProductsMatchesTheReference) {
  for (const Activation activation : kActivations) {
    for (const bool bias : {false, true}) {
      for (const std::vector<int64_t>& offsets :
           {std::vector<int64_t>{0, 7, 7, 20, 32}, {9, 9, 9, 9, 25}}) {  // all rows used, and 7 that are no expert's
        const Operation on_device = [&](const Tensors& x) {
          MlpWeights weights{.up = x[1], .down = x[2]};
          if (bias) weights.up_bias = x[3];
          if (bias) weights.down_bias = x[4];
          return Tensors{grouped_mlp_on_device(x[0], integers(offsets), weights, activation)};
        };
        EXPECT_TRUE(fused_matches_reference(on_device, grouped(offsets, false, activation),
                                            random_inputs(32, 5, 16, 8, activation, bias), kF32))
            << static_cast<int>(activation) << bias;
      }
    }
  }
}

// A grouped product may leave anything in the gradient of an expert without rows.
TEST(GroupedMlp, ExpertsWithoutRowsHaveGradientZeroByGroupedProducts) {
  Tensors x = random_inputs(20, 5, 16, 8, Activation::kSwiGlu, false);
  for (torch::Tensor& tensor : x) tensor = tensor.to(kF32).detach().requires_grad_();
  const auto y =
      grouped_mlp_on_device(x[0], integers({0, 7, 7, 20, 20}), {.up = x[1], .down = x[2]}, Activation::kSwiGlu);
  const auto gradients = torch::autograd::grad({y.sum()}, {x[1], x[2]});
  for (const torch::Tensor& gradient : gradients) {
    for (const int64_t expert : {0, 2, 4}) EXPECT_EQ(gradient[expert].count_nonzero().item<int64_t>(), 0);
    for (const int64_t expert : {1, 3}) EXPECT_GT(gradient[expert].count_nonzero().item<int64_t>(), 0);
  }
}

TEST(GroupedMlp, SameOnCuda) {
  SWITCHYARD_NEEDS(torch::kCUDA);
  const auto on = [](torch::DeviceType device) {
    return [device](const Tensors& x) {
      const MlpWeights weights{.up = x[1].to(device), .down = x[2].to(device)};
      const auto offsets = integers({0, 7, 7, 20, 32}).to(device);
      return Tensors{grouped_mlp(x[0].to(device), offsets, weights, Activation::kSwiGlu).cpu()};
    };
  };
  for (const auto type : {kF32, kBf16, kF64}) {
    for (const int64_t width : {16, 20}) {  // whole 16 bytes in bfloat16, and not
      Tensors inputs;
      for (const auto& x : random_inputs(32, 5, width, 8)) inputs.push_back(x.to(type));
      const Tensors expected = results_and_gradients(on(torch::kCPU), inputs);
      const Tensors actual = results_and_gradients(on(torch::kCUDA), inputs);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(close(actual[i], expected[i], type)) << i << type;
    }
  }
}

TEST(GroupedMlp, DenseIsOneExpert) {
  for (const Activation activation : kActivations) {
    const Tensors x = random_inputs(5, 1, 4, 3, activation, true);
    EXPECT_TRUE(identical(dense_mlp(x[0], {x[1], x[2], x[3], x[4]}, activation), grouped({5}, true, activation)(x)[0]));
  }
}

TEST(GroupedMlp, GradientsByCentralDifferences) {
  // Uneven, with an empty expert first, in the middle and last; and everything on one.
  EXPECT_TRUE(operation_gradients_match(grouped({0, 4, 4, 5, 5}, true), random_inputs(5, 5, 4, 3)));
  EXPECT_TRUE(operation_gradients_match(grouped({0, 6, 6}, true), random_inputs(6, 3, 3, 2), {.samples = 60}));
}

class GroupedMlpTypes : public ::testing::TestWithParam<torch::ScalarType> {};

TEST_P(GroupedMlpTypes, MatchesTheReference) {
  EXPECT_TRUE(fused_matches_reference(grouped({2, 2, 9, 11}, true), grouped({2, 2, 9, 11}, false),
                                      random_inputs(11, 4, 7, 33), GetParam()));
  EXPECT_TRUE(
      fused_matches_reference(grouped({1, 3}, true), grouped({1, 3}, false), random_inputs(3, 2, 1, 1), GetParam()));
  EXPECT_TRUE(fused_matches_reference(grouped({0, 40}, true), grouped({0, 40}, false), random_inputs(40, 2, 33, 17),
                                      GetParam()));
}

TEST_P(GroupedMlpTypes, ActivationsAndBiasesMatchTheReference) {
  const OneThread one_thread;
  for (const Activation activation : kActivations) {
    for (const bool bias : {false, true}) {
      // Sizes at which no value before a ReLU is so near zero that bfloat16 turns its sign.
      for (const int64_t hidden : {1, 3, 5}) {
        const Tensors x = random_inputs(7, 4, hidden, 9, activation, bias);  // rows 5 and 6 belong to nobody
        const auto fused = grouped({1, 1, 4, 5}, true, activation);
        EXPECT_TRUE(fused_matches_reference(fused, grouped({1, 1, 4, 5}, false, activation), x, GetParam()))
            << static_cast<int>(activation) << ' ' << bias << ' ' << hidden;
        const auto all = results_and_gradients(fused, x);
        EXPECT_TRUE(all[0].narrow(0, 5, 2).eq(0).all().item<bool>());
        for (size_t i = 2; i < all.size(); ++i) EXPECT_TRUE(all[i][1].eq(0).all().item<bool>()) << i;  // no rows
      }
    }
  }
}

TEST_P(GroupedMlpTypes, RecomputedInnerValuesAreTheSameBits) {
  const auto with = [](Inner inner, Activation activation) -> Operation {
    return [=](const Tensors& x) {
      const MlpWeights weights{.up = x[1], .down = x[2], .up_bias = x[3], .down_bias = x[4]};
      return Tensors{grouped_mlp(x[0], integers({300, 300, 340}), weights, activation, inner)};
    };
  };
  for (const Activation activation : kActivations) {
    Tensors x = random_inputs(350, 3, 9, 17, activation, true);  // more than a piece, nothing, and rows of nobody
    for (auto& t : x) t = t.to(GetParam());
    const auto kept = results_and_gradients(with(Inner::kKept, activation), x);
    const auto recomputed = results_and_gradients(with(Inner::kRecomputed, activation), x);
    for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(identical(recomputed[i], kept[i])) << i;
  }
}

TEST_P(GroupedMlpTypes, ThreadsChangeNoBit) {
  // An expert that is cut, one with a few rows, one with none, and one that is cut for three threads but not for two.
  Tensors x = random_inputs(700, 4, 20, 24, Activation::kSwiGlu, true);
  for (auto& t : x) t = t.to(GetParam());
  const auto computed = [&](int threads) {
    at::set_num_threads(threads);
    return results_and_gradients(grouped({300, 310, 310, 560}, true), x);
  };
  const int before = at::get_num_threads();
  const auto expected = computed(1);
  for (const int threads : {2, 3, 16}) {
    const auto found = computed(threads);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(identical(found[i], expected[i])) << threads << ' ' << i;
  }
  at::set_num_threads(before);
}

TEST_P(GroupedMlpTypes, TakesStridedInputs) {
  Tensors x = random_inputs(5, 2, 7, 3);
  for (auto& t : x) t = t.to(GetParam());
  const auto operation = grouped({3, 5}, true);
  EXPECT_TRUE(close(operation({with_gaps(x[0]), with_gaps(x[1]), with_gaps(x[2])})[0], operation(x)[0]));
}

TEST_P(GroupedMlpTypes, RowsBeyondTheLastExpertAreZero) {
  const Tensors x = random_inputs(6, 2, 5, 3);
  EXPECT_TRUE(fused_matches_reference(grouped({1, 4}, true), grouped({1, 4}, false), x, GetParam()));
  const auto all = results_and_gradients(grouped({1, 4}, true), x);
  EXPECT_TRUE(all[0].narrow(0, 4, 2).eq(0).all().item<bool>());
  EXPECT_TRUE(all[1].narrow(0, 4, 2).eq(0).all().item<bool>());
}

TEST_P(GroupedMlpTypes, ExpertsWithoutRowsGetZeroGradients) {
  Tensors x = random_inputs(3, 3, 5, 3);
  for (auto& t : x) t = t.to(GetParam());
  const auto all = results_and_gradients(grouped({0, 3, 3}, true), x);
  for (const int64_t expert : {0, 2}) {
    EXPECT_TRUE(all[2][expert].eq(0).all().item<bool>());
    EXPECT_TRUE(all[3][expert].eq(0).all().item<bool>());
  }
  EXPECT_TRUE(all[2][1].ne(0).any().item<bool>());
}

TEST_P(GroupedMlpTypes, NoRowsAtAll) {
  Tensors x = random_inputs(0, 2, 5, 3);
  for (auto& t : x) t = t.to(GetParam());
  const auto all = results_and_gradients(grouped({0, 0}, true), x);
  EXPECT_EQ(all[0].size(0), 0);
  EXPECT_TRUE(all[2].eq(0).all().item<bool>());
  EXPECT_TRUE(all[3].eq(0).all().item<bool>());
}

TEST_P(GroupedMlpTypes, LargeGates) {
  // Gates of +-80 and beyond what e^x holds: silu is the gate itself, or nothing.
  for (const double size : {80.0, 4096.0}) {
    const auto gate_up = doubles({size, 0, -size, 0, 0, 1, 0, 1}).view({1, 4, 2});
    const Tensors x = {doubles({1, 2, -1, 0.5}).view({2, 2}), gate_up, doubles({1, 2, 3, 4}).view({1, 2, 2})};
    EXPECT_TRUE(fused_matches_reference(grouped({2}, true), grouped({2}, false), x, GetParam())) << size;
  }
}

TEST_P(GroupedMlpTypes, NanStaysVisible) {
  Tensors x = random_inputs(4, 2, 5, 3);
  for (auto& t : x) t = t.to(GetParam());
  x[0][1][0].fill_(kNan);
  const auto all = results_and_gradients(grouped({2, 4}, true), x);
  EXPECT_TRUE(all[0][1].isnan().all().item<bool>());
  EXPECT_FALSE(all[0].narrow(0, 2, 2).isnan().any().item<bool>());
  EXPECT_TRUE(all[1][1].isnan().all().item<bool>());
  EXPECT_TRUE(all[2][0].isnan().all().item<bool>());
  EXPECT_TRUE(all[3][0].isnan().all().item<bool>());
  EXPECT_FALSE(all[2][1].isnan().any().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Types, GroupedMlpTypes, ::testing::Values(kF32, kBf16, kF64));

TEST(GroupedMlp, RefusesShapesThatDoNotFit) {
  const Tensors x = random_inputs(4, 2, 5, 3);
  EXPECT_THROW(grouped({4}, true)(x), c10::ValueError);
  EXPECT_THROW(grouped({2, 4}, true)({x[0], x[1].narrow(1, 0, 5), x[2]}), c10::ValueError);
  EXPECT_THROW(grouped({2, 4}, true, Activation::kGelu)(x), c10::ValueError);  // not one matrix
  const Tensors biased = random_inputs(4, 2, 5, 3, Activation::kRelu, true);
  EXPECT_THROW(grouped({2, 4}, true, Activation::kRelu)({biased[0], biased[1], biased[2], biased[4], biased[4]}),
               c10::ValueError);
}

}  // namespace
}  // namespace switchyard::test::grouped_mlp_test
