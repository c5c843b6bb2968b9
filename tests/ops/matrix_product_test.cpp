#include "ops/matrix_product.h"

#include "tests/support/operation.h"

namespace switchyard::test::matrix_product_test {
namespace {

using torch::Tensor;

const Operation kFused = [](const Tensors& x) { return Tensors{linear_map(x[0], x[1], x[2])}; };
const Operation kReference = [](const Tensors& x) { return Tensors{torch::linear(x[0], x[1], x[2])}; };

class MatrixProductTypes : public ::testing::TestWithParam<torch::ScalarType> {};

// Few rows, a small product, one that is large enough for a library, and one whose operands are packed in parts.
TEST_P(MatrixProductTypes, EveryEngineGivesTheProduct) {
  struct Sizes {
    int64_t rows, inner, columns;
  };
  for (const Sizes& n : {Sizes{1, 7, 5}, Sizes{4, 33, 9}, Sizes{5, 7, 3}, Sizes{130, 97, 131}, Sizes{130, 1300, 700},
                         Sizes{0, 3, 2}, Sizes{3, 0, 2}}) {
    const Tensor a = random_tensor({n.rows, n.inner}, 1), b = random_tensor({n.inner, n.columns}, 2);
    const Tensor expected = torch::mm(a.to(GetParam()).to(kF64), b.to(GetParam()).to(kF64));
    const Tensor left = a.to(GetParam()), right = b.to(GetParam());
    // By rows and by columns contiguous.
    for (const Tensor& x : {left, left.t().contiguous().t()}) {
      for (const Tensor& y : {right, right.t().contiguous().t()}) {
        EXPECT_TRUE(close(matrix_product(x, y), expected, GetParam())) << n.rows;
      }
    }
  }
}

// As in the gradients of weights, which are summed chunk by chunk.
TEST_P(MatrixProductTypes, ProductsAreAdded) {
  const Tensor a = random_tensor({50, 70}, 1).to(GetParam()), b = random_tensor({50, 30}, 2).to(GetParam());
  const auto wide = GetParam() == kF64 ? kF64 : kF32;
  const Tensor before = random_tensor({70, 30}, 3).to(wide);
  const Tensor out = before.clone();
  product_add(GetParam(), view_of(out), view_of(a), view_of(b), kernels::ProductForm::kTransposedA);
  EXPECT_TRUE(close(out, before.to(kF64) + torch::mm(a.to(kF64).t(), b.to(kF64)), wide));
}

// Where the product is cut over threads, and at how many rows, changes no bit.
TEST_P(MatrixProductTypes, BitsDependOnNeitherThreadsNorRows) {
  if (!has_product_loop(GetParam())) GTEST_SKIP() << "products of this type are ATen's on this processor";
  const int threads = at::get_num_threads();
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{301, 130}, {130, 301}}) {
    const Tensor a = random_tensor({rows, 200}, 1).to(GetParam()), b = random_tensor({200, columns}, 2).to(GetParam());
    for (const Tensor& x : {a, a.t().contiguous().t()}) {
      for (const Tensor& y : {b, b.t().contiguous().t()}) {
        if (!x.is_contiguous() && !y.is_contiguous()) continue;
        at::set_num_threads(1);
        const Tensor one = matrix_product(x, y);
        at::set_num_threads(3);
        EXPECT_TRUE(torch::equal(matrix_product(x, y), one));
        at::set_num_threads(threads);
        if (!x.is_contiguous()) continue;
        EXPECT_TRUE(torch::equal(matrix_product(x.narrow(0, 90, 7), y), one.narrow(0, 90, 7)));
      }
    }
  }
}

TEST_P(MatrixProductTypes, AddsABias) {
  for (const int64_t rows : {2, 9, 150}) {
    const Tensor a = random_tensor({rows, 100}, 1).to(GetParam()), b = random_tensor({90, 100}, 2).to(GetParam());
    const Tensor bias = random_tensor({90}, 3).to(GetParam());
    const Tensor expected = torch::addmm(bias.to(kF64), a.to(kF64), b.to(kF64).t());
    EXPECT_TRUE(close(matrix_product(a, b.t(), bias), expected, GetParam())) << rows;
  }
}

TEST_P(MatrixProductTypes, OverwritesWhatWasThere) {
  const Tensor a = random_tensor({110, 100}, 1).to(GetParam()), b = random_tensor({100, 100}, 2).to(GetParam());
  Tensor out = torch::full({110, 100}, std::numeric_limits<double>::quiet_NaN(), GetParam());
  matrix_product_out(out, a, b);
  EXPECT_TRUE(torch::equal(out, matrix_product(a, b)));
}

TEST_P(MatrixProductTypes, LinearMapMatchesTorch) {
  for (const int64_t rows : {2, 9, 150}) {
    EXPECT_TRUE(fused_matches_reference(
        kFused, kReference, {random_tensor({2, rows, 90}, 1), random_tensor({80, 90}, 2), random_tensor({80}, 3)},
        GetParam()))
        << rows;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MatrixProductTypes, ::testing::Values(kF32, kBf16, kF64));

TEST(LinearMap, GradientsByCentralDifferences) {
  EXPECT_TRUE(operation_gradients_match(
      kFused, {random_tensor({2, 3, 5}, 1), random_tensor({4, 5}, 2), random_tensor({4}, 3)}));
}

TEST(LinearMap, ComputesInTheTypeOfItsInput) {
  const Tensor x = random_tensor({3, 4}, 1, kBf16), weight = random_tensor({5, 4}, 2, kF32).requires_grad_();
  const Tensor y = linear_map(x, weight);
  EXPECT_EQ(y.scalar_type(), kBf16);
  y.sum().backward();
  EXPECT_EQ(weight.grad().scalar_type(), kF32);
}

TEST(LinearMap, OnlyWhatIsWantedGetsAGradient) {
  const Tensor x = random_tensor({3, 4}, 1, kF32), weight = random_tensor({5, 4}, 2, kF32).requires_grad_();
  linear_map(x, weight).sum().backward();
  EXPECT_TRUE(close(weight.grad(), x.sum(0).expand({5, 4})));
  EXPECT_FALSE(x.grad().defined());
}

}  // namespace
}  // namespace switchyard::test::matrix_product_test
