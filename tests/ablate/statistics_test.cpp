#include "ablate/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/errors.h"

namespace switchyard {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SpreadOf, ByHand) {
  const Spread spread = spread_of({1, 2, 4, 5});
  EXPECT_EQ(spread.count, 4U);
  EXPECT_DOUBLE_EQ(spread.mean, 3);
  EXPECT_DOUBLE_EQ(spread.deviation, std::sqrt(10.0 / 3));
  EXPECT_DOUBLE_EQ(spread_of({7}).mean, 7);
  EXPECT_TRUE(std::isnan(spread_of({7}).deviation));
  EXPECT_TRUE(std::isnan(spread_of({}).mean));
}

TEST(RegularisedIncompleteBeta, Values) {
  EXPECT_DOUBLE_EQ(regularised_incomplete_beta(2, 3, 0.5), 11.0 / 16);  // P(X >= 2), X binomial of 4 and 1/2
  EXPECT_DOUBLE_EQ(regularised_incomplete_beta(1, 1, 0.3), 0.3);
  EXPECT_NEAR(regularised_incomplete_beta(3, 7, 0.1), 0.052972138, 1e-12);   // P(X >= 3), X binomial of 9 and 1/10
  EXPECT_NEAR(regularised_incomplete_beta(0.5, 0.5, 0.25), 1.0 / 3, 1e-14);  // 2 / pi asin(1 / 2)
  EXPECT_EQ(regularised_incomplete_beta(2, 3, 0), 0);
  EXPECT_EQ(regularised_incomplete_beta(2, 3, 1), 1);
  for (const double x : {0.01, 0.3, 0.77, 0.999}) {
    EXPECT_NEAR(regularised_incomplete_beta(40, 0.5, x), 1 - regularised_incomplete_beta(0.5, 40, 1 - x), 1e-13);
  }
}

// Closed forms: 1 - 2 / pi atan t for df = 1, 1 - t / sqrt(2 + t^2) for df = 2, finite sums for other whole numbers.
TEST(StudentTwoSided, ClosedForms) {
  EXPECT_NEAR(student_two_sided(1, 1), 0.5, 1e-14);
  EXPECT_NEAR(student_two_sided(3, 2), 1 - 3 / std::sqrt(11.0), 1e-14);
  EXPECT_NEAR(student_two_sided(-3, 2), 1 - 3 / std::sqrt(11.0), 1e-14);
  EXPECT_NEAR(student_two_sided(2, 3), 0.13932596855884305, 1e-13);
  EXPECT_NEAR(student_two_sided(2.5, 4), 0.0667665448119883, 1e-13);
  EXPECT_NEAR(student_two_sided(2, 10), 0.0733880347707403, 1e-13);
  EXPECT_NEAR(student_two_sided(6, 30), 1.394276876620637e-06, 1e-15);
  EXPECT_EQ(student_two_sided(0, 5), 1);
  EXPECT_EQ(student_two_sided(INFINITY, 5), 0);
}

// Quantiles of the printed tables.
TEST(StudentTwoSided, Tables) {
  EXPECT_NEAR(student_two_sided(12.7062047362, 1), 0.05, 1e-10);
  EXPECT_NEAR(student_two_sided(4.30265272991, 2), 0.05, 1e-10);
  EXPECT_NEAR(student_two_sided(2.228138852, 10), 0.05, 1e-10);
}

TEST(WelchTest, ByHand) {
  // Means 2 and 5; variances of the means 1/3 and 5/3.
  const TestResult result = welch_test({1, 2, 3}, {2, 4, 6, 8});
  EXPECT_DOUBLE_EQ(result.difference, -3);
  EXPECT_DOUBLE_EQ(result.t, -3 / std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(result.df, 4.0 * 54 / 53);
  EXPECT_NEAR(result.p, 0.09991286431180979, 1e-10);  // by Simpson's rule over the density
}

TEST(WelchTest, WithoutVariance) {
  EXPECT_EQ(welch_test({2, 2}, {2, 2}).p, 1);
  const TestResult apart = welch_test({2, 2}, {3, 3});
  EXPECT_EQ(apart.p, 0);
  EXPECT_EQ(apart.t, -INFINITY);
  EXPECT_THROW(welch_test({1}, {1, 2}), Error);
}

TEST(PairedTest, ByHand) {
  // Differences 1, 2 and 3: mean 2, standard error 1 / sqrt 3.
  const TestResult result = paired_test({11, 22, 33}, {10, 20, 30});
  EXPECT_DOUBLE_EQ(result.difference, 2);
  EXPECT_DOUBLE_EQ(result.t, 2 * std::sqrt(3.0));
  EXPECT_EQ(result.df, 2);
  EXPECT_NEAR(result.p, 1 - std::sqrt(12.0 / 14), 1e-14);
  // Samples that lie apart only pair by pair: the paired test sees it, the other one does not.
  EXPECT_LT(paired_test({1.0, 5.0, 9.0}, {1.11, 5.1, 9.09}).p, 0.01);
  EXPECT_GT(welch_test({1.0, 5.0, 9.0}, {1.11, 5.1, 9.09}).p, 0.9);
  EXPECT_THROW(paired_test({1, 2}, {1, 2, 3}), Error);
}

TEST(HolmCorrected, ByHand) {
  EXPECT_THAT(holm_corrected({0.01, 0.04, 0.03}),
              ElementsAre(DoubleNear(0.03, 1e-15), DoubleNear(0.06, 1e-15), DoubleNear(0.06, 1e-15)));
  EXPECT_THAT(holm_corrected({0.6, 0.7}), ElementsAre(1, 1));
  EXPECT_THAT(holm_corrected({}), IsEmpty());
}

TEST(ParetoFront, ByHand) {
  // 4 is beaten by 1 in one coordinate, 2 by 0 in both; equal points stand together.
  EXPECT_THAT(pareto_front({{1, 3}, {0.5, 4}, {2, 5}, {3, 1}, {0.5, 5}, {3, 1}}), ElementsAre(1, 0, 3, 5));
  EXPECT_THAT(pareto_front({{NAN, 0}, {1, NAN}, {2, 2}}), ElementsAre(2));
  EXPECT_THAT(pareto_front({}), IsEmpty());
}

}  // namespace
}  // namespace switchyard
