// Seeded tensors, and their comparison by the table of tolerances.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <vector>

#include "ops/torch.h"
#include "tests/support/tolerances.h"

namespace switchyard::test {

constexpr torch::ScalarType kF32 = torch::kFloat32;
constexpr torch::ScalarType kF64 = torch::kFloat64;
constexpr torch::ScalarType kBf16 = torch::kBFloat16;

// Normal values that depend on the seed alone (rounded to `type` from the same float64 values).
inline torch::Tensor random_tensor(torch::IntArrayRef shape, uint64_t seed, torch::ScalarType type = kF64) {
  auto generator = at::detail::createCPUGenerator(seed);
  return torch::randn(shape, generator, torch::TensorOptions(kF64)).to(type);
}

inline torch::Tensor random_integers(int64_t below, torch::IntArrayRef shape, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return torch::randint(below, shape, generator, torch::TensorOptions(torch::kInt64));
}

inline torch::Tensor doubles(const std::vector<double>& values) { return torch::tensor(values, kF64); }
inline torch::Tensor integers(const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64); }

// The same values, but every other element of a twice as wide memory.
inline torch::Tensor with_gaps(const torch::Tensor& x) {
  return torch::stack({x, torch::full_like(x, 97)}, -1).select(-1, 0);
}

// Whether both have one shape and agree within the tolerance of `type`; NaN and infinities only with themselves.
inline ::testing::AssertionResult close(const torch::Tensor& actual, const torch::Tensor& expected,
                                        torch::ScalarType type) {
  if (!actual.defined() || !expected.defined()) return ::testing::AssertionFailure() << "a tensor is undefined";
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure() << "shape " << actual.sizes() << " instead of " << expected.sizes();
  }
  if (actual.numel() == 0) return ::testing::AssertionSuccess();
  const torch::Tensor a = actual.detach().to(kF64).flatten();
  const torch::Tensor e = expected.detach().to(kF64).flatten();
  const torch::Tensor finite = e.isfinite();
  const double size = torch::where(finite, e, 0.0).abs().mean().item<double>();
  const torch::Tensor near = (a - e).abs().le(tolerance(type) * (e.abs() + size));
  const torch::Tensor good = torch::where(finite, near, (a == e).logical_or(a.isnan().logical_and(e.isnan())));
  if (good.all().item<bool>()) return ::testing::AssertionSuccess();
  const int64_t at = good.to(torch::kInt64).argmin().item<int64_t>();
  return ::testing::AssertionFailure() << good.logical_not().sum().item<int64_t>() << " of " << a.numel()
                                       << " values differ; the one at " << at << " is " << a[at].item<double>()
                                       << " instead of " << e[at].item<double>() << " (mean size " << size << ", "
                                       << type << ")";
}

inline ::testing::AssertionResult close(const torch::Tensor& actual, const torch::Tensor& expected) {
  return close(actual, expected, actual.scalar_type());
}

// Whether both have the same type, shape and values, bit for bit (NaN apart).
inline ::testing::AssertionResult identical(const torch::Tensor& actual, const torch::Tensor& expected) {
  if (actual.scalar_type() == expected.scalar_type() && torch::equal(actual, expected)) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << "\n" << actual << "\nis not exactly\n" << expected;
}

}  // namespace switchyard::test
