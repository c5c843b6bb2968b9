// Central differences in float64 against the backward.
#pragma once

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "ops/torch.h"
#include "tests/support/one_thread.h"

namespace switchyard::test {

using Leaves = std::vector<std::pair<std::string, torch::Tensor>>;

struct GradientCheck {
  double step = 1e-5;
  double relative = 1e-6;
  // Rounding of a loss of size 1 to 10 gives 1e-10 at this step, its third derivative somewhat more.
  double absolute = 5e-9;
  int64_t samples = 40;     // entries per leaf; all when there are no more
  bool may_vanish = false;  // a leaf whose gradient is zero everywhere proves nothing, unless that is the point
};

inline ::testing::AssertionResult entry_matches(const std::function<torch::Tensor()>& loss, const torch::Tensor& leaf,
                                                double analytic, int64_t index, const GradientCheck& check) {
  double& entry = leaf.mutable_data_ptr<double>()[index];
  const double before = entry;
  entry = before + check.step;
  const double above = loss().item<double>();
  entry = before - check.step;
  const double below = loss().item<double>();
  entry = before;
  const double numeric = (above - below) / (2 * check.step);
  const double allowed = check.absolute + check.relative * std::max(std::abs(numeric), std::abs(analytic));
  if (std::abs(numeric - analytic) <= allowed) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "entry " << index << ": backward " << analytic << ", differences " << numeric;
}

// Whether d loss() / d leaf as the backward has it agrees with central differences. Leaves are contiguous float64
// tensors that require gradients and that loss() reads; loss() must give the same value for the same leaves.
inline ::testing::AssertionResult gradients_match(const std::function<torch::Tensor()>& loss, const Leaves& leaves,
                                                  const GradientCheck& check = {}) {
  const OneThread one_thread;
  std::vector<torch::Tensor> inputs;
  for (const auto& [name, leaf] : leaves) inputs.push_back(leaf);
  const auto gradients = torch::autograd::grad({loss()}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const auto& [name, leaf] = leaves[i];
    if (!leaf.is_contiguous() || leaf.scalar_type() != torch::kFloat64) {
      return ::testing::AssertionFailure() << name << " is not a contiguous float64 tensor";
    }
    const torch::Tensor gradient = (gradients[i].defined() ? gradients[i] : torch::zeros_like(leaf)).contiguous();
    if (!check.may_vanish && gradient.abs().max().item<double>() < 1e-6) {
      return ::testing::AssertionFailure() << name << ": the whole gradient vanishes";
    }
    const RandomPermutation order(i + 1, static_cast<uint64_t>(leaf.numel()));
    for (int64_t sample = 0; sample < std::min(check.samples, leaf.numel()); ++sample) {
      const auto index = static_cast<int64_t>(order(static_cast<uint64_t>(sample)));
      const auto result = entry_matches(loss, leaf, gradient.const_data_ptr<double>()[index], index, check);
      if (!result) return ::testing::AssertionFailure() << name << ' ' << leaf.sizes() << ", " << result.message();
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace switchyard::test
