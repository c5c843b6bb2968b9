// The kernels of src/ops/cuda against the operations of the CPU: as loops on the host, and on a GPU where there is one.
#include <limits>

#include "ops/cuda/operations.h"
#include "ops/cuda/top_k_kernels.h"
#include "ops/top_k.h"
#include "tests/support/devices.h"
#include "tests/support/operation.h"

namespace switchyard::test::cuda_kernels_test {
namespace {

using torch::Tensor;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr torch::ScalarType kTypes[] = {kF32, kBf16, kF64};
// Shorter and longer than a warp; of whole 16 bytes and not.
constexpr int64_t kDims[] = {1, 7, 8, 33, 64, 256, 300, 520};

class CudaKernels : public ::testing::TestWithParam<torch::DeviceType> {
 protected:
  void SetUp() override { SWITCHYARD_NEEDS(GetParam()); }

  Tensor there(const Tensor& x) const { return x.defined() ? x.to(GetParam()) : x; }

  // The order of the kernels, back on the CPU.
  ExpertOrder order_of(const Tensor& ids, int64_t experts, const Tensor& kept) const {
    ExpertOrder order = cuda::order_by_expert(there(ids), experts, there(kept));
    order.offsets = order.offsets.cpu();
    order.row_of_choice = order.row_of_choice.cpu();
    order.choice_of_row = order.choice_of_row.cpu();
    return order;
  }

  // Its first rows are those of the CPU; the others belong to nothing.
  void expect_order(const Tensor& ids, int64_t experts, const Tensor& kept) const {
    const ExpertOrder expected = order_by_expert(ids, experts, kept, RowCount::kExact);
    const ExpertOrder order = order_of(ids, experts, kept);
    EXPECT_EQ(order.num_rows, ids.numel());
    EXPECT_TRUE(identical(order.offsets, expected.offsets));
    EXPECT_TRUE(identical(order.row_of_choice, expected.row_of_choice));
    ASSERT_EQ(order.choice_of_row.numel(), ids.numel());
    EXPECT_TRUE(identical(order.choice_of_row.narrow(0, 0, expected.num_rows), expected.choice_of_row));
    EXPECT_TRUE(order.choice_of_row.slice(0, expected.num_rows).eq(-1).all().item<bool>());
  }
};

TEST_P(CudaKernels, OrderByHand) {
  // As ExpertOrder.ByHand of permutation_test.cpp, with a row for the dropped choice.
  const ExpertOrder order = order_of(integers({1, 0, 0, 2, 1, 0}).view({3, 2}), 4,
                                     integers({1, 1, 0, 1, 1, 1}).view({3, 2}).to(torch::kBool));
  EXPECT_TRUE(identical(order.offsets, integers({2, 4, 5, 5})));
  EXPECT_TRUE(identical(order.choice_of_row, integers({1, 5, 0, 4, 3, -1})));
  EXPECT_TRUE(identical(order.row_of_choice, integers({2, 0, -1, 4, 3, 1}).view({3, 2})));
}

TEST_P(CudaKernels, OrderIsThatOfTheCpu) {
  // Choices of less than a tile of 512, of exactly one and two, of a few more, and of more tiles than a warp has lanes.
  for (const int64_t tokens : {0, 1, 255, 256, 257, 512, 1000, 9000}) {
    for (const int64_t experts : {2, 31, 300}) {
      const Tensor ids = random_integers(experts, {tokens, 2}, static_cast<uint64_t>(tokens + experts));
      expect_order(ids, experts, {});
      expect_order(ids, experts, random_tensor({tokens, 2}, 6) > -0.5);
      expect_order(ids, experts, torch::zeros({tokens, 2}, torch::kBool));
    }
  }
  expect_order(torch::zeros({700, 1}, torch::kInt64), 1, {});
}

TEST_P(CudaKernels, OrderTakesStridedChoices) {
  const Tensor ids = random_integers(5, {3, 400}, 1).t();
  const Tensor kept = (random_tensor({3, 400}, 2) > 0).t();
  const ExpertOrder strided = cuda::order_by_expert(there(ids), 5, there(kept));
  EXPECT_TRUE(identical(strided.row_of_choice.cpu(),
                        order_by_expert(ids.contiguous(), 5, kept.contiguous(), RowCount::kExact).row_of_choice));
}

TEST_P(CudaKernels, RowsAreGathered) {
  const Tensor ids = random_integers(5, {90, 3}, 3);
  const ExpertOrder order = order_of(ids, 5, random_tensor({90, 3}, 4) > -0.5);
  for (const auto type : kTypes) {
    for (const int64_t dim : kDims) {
      const Tensor x = random_tensor({90, dim}, 1, type);
      const Tensor rows = cuda::gather_rows(there(x), there(order.choice_of_row), 3);
      EXPECT_TRUE(identical(rows.cpu(), permute_tokens_reference(x, order))) << type << ' ' << dim;
    }
  }
}

TEST_P(CudaKernels, RowsAreSummedAndTheirGradientsSpread) {
  const Tensor ids = random_integers(5, {90, 3}, 3);
  const ExpertOrder order = order_of(ids, 5, random_tensor({90, 3}, 4) > -0.5);
  for (const auto type : kTypes) {
    for (const int64_t dim : kDims) {
      const auto wide = type == kF64 ? kF64 : kF32;
      const Tensor rows = random_tensor({270, dim}, 1, type);
      const Tensor weights = random_tensor({90, 3}, 2, wide);
      const Tensor dy = random_tensor({90, dim}, 5, type);
      // The reference in float64 of the same rounded values.
      const Tensor wide_rows = rows.to(kF64).requires_grad_();
      const Tensor wide_weights = weights.to(kF64).requires_grad_();
      const Tensor expected = combine_tokens_reference(wide_rows, wide_weights, order);
      expected.backward(dy.to(kF64));
      const Tensor places = there(order.row_of_choice);
      EXPECT_TRUE(close(cuda::sum_rows(there(rows), places, there(weights)).cpu(), expected, type)) << dim;
      EXPECT_TRUE(close(cuda::sum_rows(there(rows), places, {}).cpu(),
                        combine_tokens_reference(rows.to(kF64), torch::ones({90, 3}, kF64), order), type))
          << dim;
      const auto [d_rows, d_weights] =
          cuda::sum_rows_backward(there(rows), there(weights), there(order.choice_of_row), there(dy));
      EXPECT_TRUE(close(d_rows.cpu(), wide_rows.grad(), type)) << dim;
      EXPECT_TRUE(close(d_weights.cpu(), wide_weights.grad(), wide)) << dim;
      EXPECT_EQ(d_weights.scalar_type(), wide);
    }
  }
}

TEST_P(CudaKernels, RowsThatAreNotAlignedGiveTheSame) {
  const ExpertOrder order = order_of(random_integers(4, {40, 2}, 3), 4, {});
  const Tensor choices = there(order.choice_of_row);
  const Tensor places = there(order.row_of_choice);
  for (const auto type : kTypes) {
    const Tensor rows = there(random_tensor({80, 64}, 1, type));
    const Tensor moved = torch::empty({80 * 64 + 1}, rows.options()).narrow(0, 1, 80 * 64).view({80, 64}).copy_(rows);
    ASSERT_NE(reinterpret_cast<uintptr_t>(moved.const_data_ptr()) % 16, 0);
    const Tensor weights = there(random_tensor({40, 2}, 2, type == kF64 ? kF64 : kF32));
    const Tensor dy = rows.narrow(0, 0, 40);
    EXPECT_TRUE(identical(cuda::gather_rows(moved.narrow(0, 0, 40), choices, 2),
                          cuda::gather_rows(rows.narrow(0, 0, 40), choices, 2)));
    EXPECT_TRUE(identical(cuda::sum_rows(moved, places, weights), cuda::sum_rows(rows, places, weights)));
    const auto one = cuda::sum_rows_backward(moved, weights, choices, dy);
    const auto other = cuda::sum_rows_backward(rows, weights, choices, dy);
    EXPECT_TRUE(identical(one[0], other[0]));
    EXPECT_TRUE(close(one[1], other[1], kF32));  // lanes have other columns: another order of the sum
  }
}

TEST_P(CudaKernels, TopKIsThatOfTheCpu) {
  const auto expect_same = [&](const Tensor& scores, int64_t top_k) {
    const auto chosen = cuda::top_k(there(scores), top_k, /*softmax=*/true);
    const Tensor ids = top_k_indices(scores, top_k);
    EXPECT_TRUE(identical(chosen.ids.cpu(), ids)) << scores.sizes() << ' ' << top_k;
    EXPECT_TRUE(close(chosen.probabilities, torch::softmax(there(scores), -1))) << scores.sizes();
    EXPECT_TRUE(identical(chosen.counts.cpu(), torch::bincount(ids.flatten(), {}, scores.size(1))));
    const auto plain = cuda::top_k(there(scores), top_k, /*softmax=*/false);
    EXPECT_TRUE(identical(plain.ids.cpu(), ids));
    EXPECT_FALSE(plain.probabilities.defined() || plain.counts.defined());
  };
  for (const auto type : {kF32, kF64}) {
    for (const int64_t experts : {1, 2, 8, 31, 32, 33, 64, 257, 512, 2048}) {
      for (const int64_t top_k : {1, 2, 8, 16}) {
        if (top_k <= experts) expect_same(random_tensor({37, experts}, 1, type) * 3, top_k);
        // Mostly ties.
        if (top_k <= experts) expect_same(random_integers(3, {37, experts}, 2).to(type), top_k);
      }
    }
    expect_same(doubles({kNan, 1, kNan, -kInfinity, 5, 5, kInfinity, kNan}).to(type).view({1, 8}), 8);
    expect_same(doubles({kNan, kNan, -kInfinity, -kInfinity, 1, -1, 0, 0}).to(type).view({2, 4}), 3);
    expect_same(torch::full({2, 40}, kNan, type), 16);
    expect_same(torch::full({2, 40}, -kInfinity, type), 16);
    expect_same(torch::empty({0, 8}, type), 2);
  }
}

TEST_P(CudaKernels, SoftmaxOfLargeLogits) {
  const Tensor logits = doubles({1000, 999, -1000, 0, 88, 89, 90, 91}).to(kF32).view({2, 4});
  EXPECT_TRUE(
      close(cuda::top_k(there(logits), 1, true).probabilities.cpu(), torch::softmax(logits.to(kF64), -1), kF32));
}

TEST_P(CudaKernels, ManyExpertsAreLeftToAten) {
  EXPECT_TRUE(cuda::takes_top_k(torch::empty({1, cuda::kMostExperts})));
  EXPECT_FALSE(cuda::takes_top_k(torch::empty({1, cuda::kMostExperts + 1})));
  EXPECT_FALSE(cuda::takes_top_k(torch::empty({1, 4}, kBf16)));
}

TEST_P(CudaKernels, TwoRunsGiveTheSameBits) {
  const Tensor ids = there(random_integers(16, {3000, 4}, 3));
  const Tensor x = there(random_tensor({3000, 72}, 1, kBf16));
  const Tensor weights = there(random_tensor({3000, 4}, 2, kF32));
  const auto run = [&] {
    const ExpertOrder order = cuda::order_by_expert(ids, 16);
    const Tensor rows = cuda::gather_rows(x, order.choice_of_row, 4);
    const auto gradients = cuda::sum_rows_backward(rows, weights, order.choice_of_row, x);
    return Tensors{order.choice_of_row, cuda::sum_rows(rows, order.row_of_choice, weights), gradients[0], gradients[1]};
  };
  const Tensors first = run();
  const Tensors second = run();
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(identical(first[i], second[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaKernels, ::testing::Values(torch::kCPU, torch::kCUDA), device_name);

// What the model calls, on a GPU and on the CPU, with gradients.
class OnCuda : public ::testing::TestWithParam<torch::ScalarType> {
 protected:
  void SetUp() override { SWITCHYARD_NEEDS(torch::kCUDA); }
};

// The results and gradients of `operation` with its inputs moved to CUDA are those on the CPU.
void expect_same_on_cuda(const Operation& operation, const Tensors& inputs, torch::ScalarType type) {
  Tensors here;
  Tensors there;
  for (const Tensor& x : inputs) {
    here.push_back(x.to(type));
    there.push_back(here.back().to(torch::kCUDA));
  }
  const Tensors expected = results_and_gradients(operation, here);
  const Tensors actual = results_and_gradients(
      [&](const Tensors& x) {
        Tensors results = operation(x);
        for (Tensor& result : results) result = result.cpu();
        return results;
      },
      there);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(close(actual[i].cpu(), expected[i], type)) << i;
}

TEST_P(OnCuda, TokensToExpertsAndBack) {
  const Tensor ids = random_integers(5, {90, 3}, 3);
  const Tensor kept = random_tensor({90, 3}, 4) > -0.5;
  const auto wide = GetParam() == kF64 ? kF64 : kF32;
  const Operation there_and_back = [&](const Tensors& x) {
    const auto order = order_by_expert(ids.to(x[0].device()), 5, kept.to(x[0].device()));
    return Tensors{combine_tokens(permute_tokens(x[0], order) * 2, x[1].to(wide), order)};
  };
  for (const int64_t dim : kDims) {
    expect_same_on_cuda(there_and_back, {random_tensor({90, dim}, 1), random_tensor({90, 3}, 2)}, GetParam());
  }
}

TEST_P(OnCuda, SoftmaxTopK) {
  if (GetParam() == kBf16) GTEST_SKIP() << "routers compute in float32 and float64";
  expect_same_on_cuda(
      [](const Tensors& x) {
        const auto chosen = softmax_top_k(x[0], 4);
        return Tensors{chosen.probabilities, chosen.probabilities.gather(1, chosen.ids)};
      },
      {random_tensor({50, 40}, 1)}, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Types, OnCuda, ::testing::Values(kF32, kBf16, kF64));

}  // namespace
}  // namespace switchyard::test::cuda_kernels_test
