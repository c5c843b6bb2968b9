#include "ops/step_parts.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>
#include <set>
#include <thread>

#include "ops/torch.h"

namespace switchyard {
namespace {

using Clock = StepPartRecorder::Clock;

void nothing() {}

// Keeps the processor busy, forward and, longer, backward.
struct Slow : torch::autograd::Function<Slow> {
  static void wait(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }
  static torch::Tensor forward(torch::autograd::AutogradContext*, const torch::Tensor& x) {
    wait(5);
    return x * 2;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 const torch::autograd::variable_list& gradients) {
    wait(20);
    return {gradients[0] * 2};
  }
};

double of(const std::array<double, kNumStepParts>& seconds, StepPart part) {
  return seconds[static_cast<size_t>(part)];
}

TEST(StepParts, TheBackwardPassBelongsToThePartOfItsForward) {
  const torch::Tensor x = torch::ones({2}, torch::requires_grad());
  const auto begin = Clock::now();
  StepPartRecorder recorder(nothing);
  torch::Tensor y;
  {
    const StepPartScope part(StepPart::kExperts);
    y = Slow::apply(x);
  }
  {
    const StepPartScope part(StepPart::kLoss);
    y = y.sum();
  }
  y.backward();
  const auto seconds = recorder.seconds();
  const double all = std::chrono::duration<double>(Clock::now() - begin).count();
  EXPECT_GE(of(seconds, StepPart::kExperts), 0.025);
  EXPECT_LE(std::accumulate(seconds.begin(), seconds.end(), 0.0), all);
  EXPECT_GT(of(seconds, StepPart::kLoss), 0);
  EXPECT_EQ(of(seconds, StepPart::kRouter), 0);
  EXPECT_TRUE(torch::equal(x.grad(), torch::full({2}, 2.0)));
}

TEST(StepParts, AnInnerPartIsNotCountedTwice) {
  StepPartRecorder recorder(nothing);
  {
    const StepPartScope outer(StepPart::kDispatch);
    const StepPartScope inner(StepPart::kExperts);
    Slow::wait(20);
  }
  const auto seconds = recorder.seconds();
  EXPECT_GE(of(seconds, StepPart::kExperts), 0.02);
  EXPECT_LT(of(seconds, StepPart::kDispatch), of(seconds, StepPart::kExperts));
}

TEST(StepParts, ScopesWithoutARecorderDoNothing) {
  const StepPartScope part(StepPart::kRouter);
  EXPECT_EQ(StepPartRecorder::current(), nullptr);
}

TEST(StepParts, ThereIsOneRecorderAThread) {
  const StepPartRecorder recorder(nothing);
  EXPECT_THROW(StepPartRecorder second(nothing), c10::Error);
}

TEST(StepParts, NamesAreAllDifferent) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kNumStepParts; ++i) names.insert(part_name(static_cast<StepPart>(i)));
  EXPECT_EQ(names.size(), kNumStepParts);
}

}  // namespace
}  // namespace switchyard
