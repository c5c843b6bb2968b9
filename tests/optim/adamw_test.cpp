#include "optim/adamw.h"

#include <cmath>
#include <limits>

#include "tests/support/tensors.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

OptimizerConfig hand_config() {
  OptimizerConfig config;
  config.weight_decay = 0.5;
  config.beta1 = 0.9;
  config.beta2 = 0.99;
  config.eps = 0;
  config.grad_clip = 0;
  return config;
}

constexpr double kLr = 0.1;

// A 1 x 1 matrix and a vector of one, both 2.
NamedTensors hand_parameters() {
  return {{"matrix", torch::full({1, 1}, 2.0, kF64).requires_grad_()}, {"vector", doubles({2}).requires_grad_()}};
}

void set_gradients(AdamW& optimizer, const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    Tensor parameter = optimizer.parameters()[i].second;
    parameter.mutable_grad() = torch::full_like(parameter, values[i]).detach();
  }
}

double value(const AdamW& optimizer, size_t i) { return optimizer.parameters()[i].second.item<double>(); }
double state(const AdamW& optimizer, size_t i) { return optimizer.state()[i].second.item<double>(); }

TEST(AdamW, TwoStepsByHand) {
  AdamW optimizer(hand_parameters(), hand_config());
  // Step 1, g = 3: m = 0.3, v = 0.09; both corrected are 3 and 9, so the update is lr. The matrix decays by lr * 0.5.
  set_gradients(optimizer, {3, 3});
  optimizer.step(kLr, optimizer.gradient_norm());
  EXPECT_NEAR(value(optimizer, 0), 2 * 0.95 - 0.1, 1e-12);
  EXPECT_NEAR(value(optimizer, 1), 2 - 0.1, 1e-12);
  EXPECT_NEAR(state(optimizer, 0), 0.3, 1e-12);
  EXPECT_NEAR(state(optimizer, 1), 0.09, 1e-12);
  // Step 2, g = -1: m = 0.9 * 0.3 - 0.1 = 0.17, over 1 - 0.81; v = 0.99 * 0.09 + 0.01 = 0.0991, over 1 - 0.9801.
  set_gradients(optimizer, {-1, -1});
  optimizer.step(kLr, optimizer.gradient_norm());
  const double update = 0.1 * (0.17 / 0.19) / std::sqrt(0.0991 / 0.0199);
  EXPECT_NEAR(value(optimizer, 0), 1.8 * 0.95 - update, 1e-12);
  EXPECT_NEAR(value(optimizer, 1), 1.9 - update, 1e-12);
  EXPECT_EQ(optimizer.steps(), 2);
}

TEST(AdamW, StackedBiasesDoNotDecay) {
  AdamW optimizer({{"experts.down_bias", torch::full({1, 1}, 2.0, kF64).requires_grad_()}}, hand_config());
  set_gradients(optimizer, {3});
  optimizer.step(kLr, optimizer.gradient_norm());
  EXPECT_NEAR(value(optimizer, 0), 2 - 0.1, 1e-12);
}

TEST(AdamW, EpsIsAddedToTheRoot) {
  OptimizerConfig config = hand_config();
  config.eps = 1;
  AdamW optimizer(hand_parameters(), config);
  set_gradients(optimizer, {3, 3});
  optimizer.step(kLr, optimizer.gradient_norm());
  EXPECT_NEAR(value(optimizer, 1), 2 - 0.1 * 3 / 4, 1e-12);  // 3 / (sqrt(9) + 1)
}

TEST(AdamW, NormAndClippingByHand) {
  OptimizerConfig config = hand_config();
  config.grad_clip = 1;
  AdamW optimizer(hand_parameters(), config);
  set_gradients(optimizer, {3, 4});
  const Tensor norm = optimizer.gradient_norm();
  EXPECT_DOUBLE_EQ(norm.item<double>(), 5);
  optimizer.step(kLr, norm);
  // Gradients of 0.6 and 0.8.
  EXPECT_NEAR(state(optimizer, 0), 0.06, 1e-9);
  EXPECT_NEAR(state(optimizer, 1), 0.0036, 1e-9);
  EXPECT_NEAR(state(optimizer, 2), 0.08, 1e-9);
  EXPECT_NEAR(state(optimizer, 3), 0.0064, 1e-9);
}

TEST(AdamW, SmallGradientsAreNotScaled) {
  OptimizerConfig config = hand_config();
  config.grad_clip = 10;
  AdamW optimizer(hand_parameters(), config);
  set_gradients(optimizer, {3, 4});
  optimizer.step(kLr, optimizer.gradient_norm());
  EXPECT_NEAR(state(optimizer, 0), 0.3, 1e-12);
  EXPECT_NEAR(state(optimizer, 2), 0.4, 1e-12);
}

TEST(AdamW, ParametersWithoutAGradientAreLeftAlone) {
  AdamW optimizer(hand_parameters(), hand_config());
  EXPECT_EQ(optimizer.gradient_norm().item<double>(), 0);
  set_gradients(optimizer, {3});
  EXPECT_DOUBLE_EQ(optimizer.gradient_norm().item<double>(), 3);
  optimizer.step(kLr, optimizer.gradient_norm());
  EXPECT_NEAR(value(optimizer, 0), 1.8, 1e-12);
  EXPECT_EQ(value(optimizer, 1), 2);
  EXPECT_EQ(state(optimizer, 2), 0);
  optimizer.clear_gradients();
  EXPECT_FALSE(optimizer.parameters()[0].second.grad().defined());
}

TEST(AdamW, FindsGradientsThatAreNotFinite) {
  AdamW optimizer(hand_parameters(), hand_config());
  set_gradients(optimizer, {3, 4});
  EXPECT_EQ(optimizer.first_bad_gradient(), "");
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    set_gradients(optimizer, {3, bad});
    EXPECT_EQ(optimizer.first_bad_gradient(), "vector");
    EXPECT_FALSE(optimizer.gradient_norm().isfinite().item<bool>());
  }
}

// A bf16 gradient gives what its values in float32 give, and the copy is the parameter, rounded.
TEST(AdamW, GradientsAndCopiesInBfloat16) {
  const auto run = [](torch::ScalarType type, std::vector<Tensor> copies) {
    torch::manual_seed(1);
    const Tensor matrix = torch::randn({300, 200}).requires_grad_();
    const Tensor gradient = torch::randn({300, 200}).to(torch::kBFloat16);
    AdamW optimizer({{"matrix", matrix}}, {true}, OptimizerConfig{}, std::move(copies));
    optimizer.parameters()[0].second.mutable_grad() = gradient.to(type);
    optimizer.step(kLr, optimizer.gradient_norm());
    return matrix.detach();
  };
  const Tensor copy = torch::zeros({300, 200}, torch::kBFloat16);
  const Tensor updated = run(torch::kBFloat16, {copy});
  EXPECT_TRUE(torch::equal(updated, run(torch::kFloat32, {})));
  EXPECT_TRUE(torch::equal(copy, updated.to(torch::kBFloat16)));
}

// Pieces of sums don't depend on the number of threads.
TEST(AdamW, NormIsTheSameForAllThreadCounts) {
  torch::manual_seed(1);
  const std::vector<Tensor> tensors = {torch::randn({300, 500}), torch::randn({7}), torch::randn({200, 333}).t()};
  const int threads = at::get_num_threads();
  std::vector<float> norms;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    norms.push_back(joint_norm(tensors).item<float>());
  }
  at::set_num_threads(threads);
  EXPECT_EQ(norms[0], norms[1]);
  EXPECT_EQ(norms[0], norms[2]);
  Tensor squares = torch::zeros({}, kF64);
  for (const Tensor& tensor : tensors) squares += tensor.to(kF64).square().sum();
  EXPECT_FLOAT_EQ(norms[0], squares.sqrt().item<float>());
}

TEST(AdamW, StateByNameIsTheStateItself) {
  AdamW optimizer(hand_parameters(), hand_config());
  const NamedTensors before = optimizer.state();
  ASSERT_EQ(before.size(), 4U);
  EXPECT_EQ(before[0].first, "matrix.exp_avg");
  EXPECT_EQ(before[3].first, "vector.exp_avg_sq");
  set_gradients(optimizer, {3, 3});
  optimizer.step(kLr, optimizer.gradient_norm());
  EXPECT_NEAR(before[3].second.item<double>(), 0.09, 1e-12);
}

// Moments, step count and values moved into a new optimizer: it goes on bit for bit.
TEST(AdamW, GoesOnFromItsState) {
  const auto make = [] {
    return AdamW(
        {{"a", random_tensor({7, 5}, 1, kF32).requires_grad_()}, {"b", random_tensor({33}, 2, kF32).requires_grad_()}},
        OptimizerConfig());
  };
  const auto step = [](AdamW& optimizer, uint64_t seed) {
    for (const auto& [name, parameter] : optimizer.parameters()) {
      Tensor(parameter).mutable_grad() = random_tensor(parameter.sizes(), seed++, kF32);
    }
    optimizer.step(kLr, optimizer.gradient_norm());
  };
  AdamW first = make();
  for (const uint64_t seed : {10, 20, 30}) step(first, seed);
  AdamW second = make();
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < 2; ++i) Tensor(second.parameters()[i].second).copy_(first.parameters()[i].second);
  for (size_t i = 0; i < 4; ++i) second.state()[i].second.copy_(first.state()[i].second);
  second.set_steps(first.steps());
  step(first, 40);
  step(second, 40);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(torch::equal(first.parameters()[i].second, second.parameters()[i].second));
  }
}

// The update written out in plain tensor operations, over vector-width-straddling sizes.
TEST(AdamW, MatchesTheFormulaOverManySteps) {
  const OptimizerConfig config;
  AdamW optimizer({{"weight", random_tensor({13, 7}, 1, kF32).requires_grad_()}}, config);
  Tensor p = random_tensor({13, 7}, 1, kF32).to(kF64), m = torch::zeros_like(p), v = torch::zeros_like(p);
  for (int step = 1; step <= 20; ++step) {
    Tensor parameter = optimizer.parameters()[0].second;
    parameter.mutable_grad() = random_tensor({13, 7}, static_cast<uint64_t>(100 + step), kF32);
    const Tensor norm = optimizer.gradient_norm();
    const Tensor g = parameter.grad().to(kF64) / std::max(1.0, norm.item<double>() / config.grad_clip);
    optimizer.step(0.01, norm);
    m = config.beta1 * m + (1 - config.beta1) * g;
    v = config.beta2 * v + (1 - config.beta2) * g.square();
    p = p * (1 - 0.01 * config.weight_decay) - 0.01 * (m / (1 - std::pow(config.beta1, step))) /
                                                   ((v / (1 - std::pow(config.beta2, step))).sqrt() + config.eps);
    ASSERT_TRUE(close(parameter, p, kF32)) << step;
  }
}

}  // namespace
}  // namespace switchyard::test
