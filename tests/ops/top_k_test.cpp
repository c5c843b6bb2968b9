#include "ops/top_k.h"

#include <limits>

#include "tests/support/tensors.h"

namespace switchyard::test::top_k_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<int64_t> chosen(const std::vector<double>& row, int64_t top_k, torch::ScalarType type = kF64) {
  const auto ids = top_k_indices(doubles(row).to(type).view({1, -1}), top_k).contiguous();
  return {ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + top_k};
}

TEST(TopK, LargestFirst) {
  EXPECT_EQ(chosen({0.1, 3, -2, 2}, 2), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(chosen({0.1, 3, -2, 2}, 4, kF32), (std::vector<int64_t>{1, 3, 0, 2}));
  EXPECT_EQ(chosen({-kInfinity, -5}, 2), (std::vector<int64_t>{1, 0}));
}

TEST(TopK, TiesGoToTheLowerIndex) {
  EXPECT_EQ(chosen({1, 2, 2, 1, 2}, 4), (std::vector<int64_t>{1, 2, 4, 0}));
  EXPECT_EQ(chosen({0, 0, 0}, 3), (std::vector<int64_t>{0, 1, 2}));
}

TEST(TopK, NanComesLastAndIndicesStayDistinct) {
  EXPECT_EQ(chosen({kNan, 1, kNan, -kInfinity}, 3), (std::vector<int64_t>{1, 3, 0}));
  EXPECT_EQ(chosen({kNan, kNan, kNan}, 3), (std::vector<int64_t>{0, 1, 2}));
}

TEST(TopK, MatchesAStableSort) {
  const auto scores = random_integers(5, {200, 9}, 1).to(kF32);  // many ties
  const auto sorted = std::get<1>(scores.sort(/*stable=*/true, 1, /*descending=*/true));
  EXPECT_TRUE(identical(top_k_indices(scores, 4), sorted.narrow(1, 0, 4)));
  EXPECT_TRUE(identical(top_k_indices(with_gaps(scores), 4), sorted.narrow(1, 0, 4)));
}

TEST(TopK, ManyMatchAStableSortToo) {
  const auto scores = random_integers(30, {50, 40}, 1).to(kF64);
  const auto sorted = std::get<1>(scores.sort(/*stable=*/true, 1, /*descending=*/true));
  for (const int64_t top_k : {16, 17, 40}) {
    EXPECT_TRUE(identical(top_k_indices(scores, top_k), sorted.narrow(1, 0, top_k)));
  }
}

// Beyond 16 choices they are sorted instead of searched.
TEST(TopK, NanComesLastWhereManyAreChosen) {
  std::vector<double> row(20, 1.0);
  row[0] = row[5] = kNan;
  row[7] = -kInfinity;
  row[9] = 2;
  std::vector<int64_t> expected = {9};
  for (int64_t i = 0; i < 20; ++i) {
    if (i != 0 && i != 5 && i != 7 && i != 9) expected.push_back(i);
  }
  for (const int64_t last : {7, 0, 5}) expected.push_back(last);
  EXPECT_EQ(chosen(row, 20), expected);
}

TEST(TopK, RefusesMoreThanThereAre) {
  EXPECT_THROW(top_k_indices(random_tensor({2, 3}, 1), 4), c10::ValueError);
  EXPECT_THROW(top_k_indices(random_tensor({2, 3}, 1), 0), c10::ValueError);
}

}  // namespace
}  // namespace switchyard::test::top_k_test
