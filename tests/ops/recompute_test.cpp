#include "ops/recompute.h"

#include <gmock/gmock.h>

#include "tests/support/allocation_meter.h"
#include "tests/support/operation.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

Tensor leaf(const std::vector<int64_t>& sizes, uint64_t seed) {
  return random_tensor(sizes, seed).to(kF32).set_requires_grad(true);
}

// Products, a saved result (softmax), dropout, and `said`: a second result that a loss may be of.
Tensor some_part(const Tensor& x, const Tensor& weight, Tensor* said) {
  const Tensor scores = torch::softmax(torch::mm(x, weight), 1);
  if (said != nullptr) *said = scores;
  return x + torch::dropout(torch::mm(scores.square(), weight.t()), 0.4, /*train=*/true);
}

enum class How { kPlain, kRecomputed };

struct Found {
  Tensors values;  // loss, gradients of x and of the weights, and a random number drawn behind all of it
  int64_t runs = 0;
};

// Two parts behind each other, and losses of what the first one says besides.
Found run(How how) {
  torch::manual_seed(3);
  const Tensor x = leaf({5, 4}, 1);
  const Tensor first = leaf({4, 4}, 2);
  const Tensor second = leaf({4, 4}, 3);
  Found found;
  Tensor said;
  const auto part = [&](const Tensor& input, const Tensor& weight, Tensor* besides) {
    const auto now = [&](const Tensor& from) {
      ++found.runs;
      return some_part(from, weight, besides);
    };
    if (how == How::kPlain) return now(input);
    return recomputed(input, now, [&found, weight](const Tensor& from) {
      ++found.runs;
      return some_part(from, weight, nullptr);
    });
  };
  const Tensor y = part(part(x, first, &said), second, nullptr);
  const Tensor loss = y.square().sum() + said.log().sum() + said.select(1, 0).square().sum();
  torch::randn({3});  // the streams go on in between
  loss.backward();
  found.values = {loss.detach(), x.grad(), first.grad(), second.grad(), torch::randn({3})};
  return found;
}

TEST(Recompute, ChangesNoBitOfTheResultsTheGradientsOrTheRandomStreams) {
  const Found plain = run(How::kPlain);
  const Found again = run(How::kRecomputed);
  EXPECT_EQ(plain.runs, 2);
  EXPECT_EQ(again.runs, 4);  // each part once more
  for (size_t i = 0; i < plain.values.size(); ++i) EXPECT_TRUE(identical(plain.values[i], again.values[i])) << i;
}

TEST(Recompute, KeepsNothingBetweenThePassesAndNothingBehindThem) {
  AllocationMeter& meter = AllocationMeter::installed();
  const Tensor x = leaf({256, 64}, 1);
  const auto part = [](const Tensor& input) {
    Tensor y = input;
    for (int i = 0; i < 8; ++i) y = torch::tanh(y);
    return y;
  };
  const int64_t before = meter.live();
  const auto held = [&](const Tensor& result) { return meter.live() - before - static_cast<int64_t>(result.nbytes()); };
  const int64_t size = 256 * 64 * 4;
  {
    const Tensor y = part(x);
    EXPECT_EQ(held(y), 7 * size);
  }
  const Tensor y = recomputed(x, part);
  EXPECT_LT(held(y), size / 8);  // a generator's state
  y.sum().backward();
  EXPECT_LT(held(y) - size, size / 8);  // the gradient of x
}

TEST(Recompute, RunsOnceForEachBackwardPassOfAGraphThatIsKept) {
  const Tensor x = leaf({5, 4}, 1);
  const Tensor weight = leaf({4, 4}, 2);
  int runs = 0;
  const Tensor y = recomputed(x, [&](const Tensor& input) {
    ++runs;
    return some_part(input, weight, nullptr);
  });
  const auto gradient = [&] { return torch::autograd::grad({y.sum()}, {x}, {}, /*retain_graph=*/true)[0]; };
  const Tensor once = gradient();
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(identical(once, gradient()));
  EXPECT_EQ(runs, 3);
}

TEST(Recompute, APartWithinAPartIsOfThatOne) {
  const Tensor x = leaf({5, 4}, 1);
  int runs = 0;
  const ForwardPart inner = [&](const Tensor& input) {
    ++runs;
    return input.sin().cos();
  };
  recomputed(x, [&](const Tensor& input) { return recomputed(input.exp(), inner); }).sum().backward();
  EXPECT_EQ(runs, 2);
  const Tensor gradient = x.grad().clone();
  x.mutable_grad() = Tensor();
  x.exp().sin().cos().sum().backward();
  EXPECT_TRUE(identical(gradient, x.grad()));
}

TEST(Recompute, WithoutGradientsItRunsOnce) {
  const torch::NoGradGuard no_grad;
  const Tensor x = random_tensor({3}, 1);
  EXPECT_TRUE(identical(recomputed(
                            x, [](const Tensor& input) { return input.exp(); },
                            [](const Tensor&) -> Tensor { throw std::runtime_error("ran again"); }),
                        x.exp()));
}

TEST(Recompute, APartThatComesOutDifferentlyIsTold) {
  const auto message = [](const ForwardPart& again) -> std::string {
    const Tensor x = leaf({6, 4}, 1);
    const Tensor y = recomputed(
        x, [](const Tensor& input) { return input.sin().cos(); }, again);
    try {
      y.sum().backward();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  EXPECT_EQ(message([](const Tensor& input) { return input.sin().cos(); }), "");
  EXPECT_THAT(message([](const Tensor& input) { return input.sin(); }), testing::HasSubstr("it saved 1 values"));
  EXPECT_THAT(message([](const Tensor& input) { return input.sin().cos().exp(); }),
              testing::HasSubstr("value 2 for the backward pass has the shape [6, 4] and is one more"));
  EXPECT_THAT(message([](const Tensor& input) { return input.narrow(0, 0, 2).sin().cos(); }),
              testing::HasSubstr("value 0 for the backward pass has the shape [2, 4] instead of [6, 4]"));
}

TEST(Recompute, AnErrorOfTheSecondRunEndsTheBackwardPassAndTheScope) {
  const Tensor x = leaf({3}, 1);
  const Tensor y = recomputed(
      x, [](const Tensor& input) { return input.sin(); },
      [](const Tensor&) -> Tensor { throw std::invalid_argument("no room"); });
  EXPECT_THROW(y.sum().backward(), std::invalid_argument);
  // Nothing of it is left: what is saved from here on is kept.
  x.sin().sum().backward();
  EXPECT_TRUE(identical(x.grad(), x.detach().cos()));
}

}  // namespace
}  // namespace switchyard::test
