#include "metrics/routing_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/errors.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using ::testing::DoubleEq;
using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

RoutingStatistics statistics_of(const std::vector<double>& counts) {
  const std::vector<double> sums(counts.size(), 0.0);
  const std::vector<int64_t> used(counts.size(), 0);
  return routing_statistics(counts, sums, 0, 0, 0, used, 1);
}

TEST(RoutingStatistics, UniformLoad) {
  const RoutingStatistics found = statistics_of({5, 5, 5, 5});
  EXPECT_THAT(found.load, ElementsAre(0.25, 0.25, 0.25, 0.25));
  EXPECT_DOUBLE_EQ(found.max_violation, 0);
  EXPECT_DOUBLE_EQ(found.load_cv, 0);
  EXPECT_DOUBLE_EQ(found.entropy, 1);
}

TEST(RoutingStatistics, AllTokensOnOneExpert) {
  const RoutingStatistics found = statistics_of({0, 0, 12, 0});
  EXPECT_THAT(found.load, ElementsAre(0, 0, 1, 0));
  EXPECT_DOUBLE_EQ(found.max_violation, 3);         // 1 / (1/4) - 1
  EXPECT_DOUBLE_EQ(found.load_cv, std::sqrt(3.0));  // deviations -1, -1, 3, -1 of the mean
  EXPECT_DOUBLE_EQ(found.entropy, 0);
}

// By hand: shares 1/2, 1/4, 1/4, 0. Entropy 1.5 bits of 2. Relative loads 2, 1, 1, 0: squares of deviations 1, 0, 0, 1.
TEST(RoutingStatistics, UnevenLoad) {
  const RoutingStatistics found = statistics_of({6, 3, 3, 0});
  EXPECT_THAT(found.load, ElementsAre(0.5, 0.25, 0.25, 0));
  EXPECT_DOUBLE_EQ(found.max_violation, 1);
  EXPECT_DOUBLE_EQ(found.load_cv, std::sqrt(0.5));
  EXPECT_NEAR(found.entropy, 0.75, 1e-15);
}

TEST(RoutingStatistics, ProbabilitiesEntropyAndDropsArePerTokenAndAssignment) {
  const std::vector<double> counts = {6, 2};
  const std::vector<double> sums = {3, 1};
  const std::vector<int64_t> used = {0, 0};
  const RoutingStatistics found = routing_statistics(counts, sums, 2 * std::log(2.0), 4, 2, used, 10);
  EXPECT_THAT(found.mean_probability, ElementsAre(0.75, 0.25));
  EXPECT_DOUBLE_EQ(found.token_entropy, 0.5);
  EXPECT_DOUBLE_EQ(found.dropped_fraction, 0.25);
  EXPECT_DOUBLE_EQ(found.experts_per_token, 2);
}

TEST(RoutingStatistics, ZeroTokensGiveZeros) {
  const std::vector<double> none = {0, 0, 0};
  const std::vector<int64_t> unused = {3, 3, 3};
  const RoutingStatistics found = routing_statistics(none, none, 0, 0, 0, unused, 4);
  EXPECT_THAT(found.load, Each(0.0));
  EXPECT_THAT(found.mean_probability, Each(0.0));
  for (const double value :
       {found.max_violation, found.load_cv, found.entropy, found.token_entropy, found.dropped_fraction}) {
    EXPECT_EQ(value, 0);
  }
  EXPECT_EQ(found.dead_experts, 0);
}

TEST(RoutingStatistics, OneExpertIsBalanced) {
  const std::vector<double> counts = {7};
  const std::vector<int64_t> used = {0};
  const RoutingStatistics found = routing_statistics(counts, counts, 0, 7, 0, used, 1);
  EXPECT_EQ(found.entropy, 1);
  EXPECT_EQ(found.token_entropy, 1);
  EXPECT_EQ(found.max_violation, 0);
}

TEST(RoutingStatistics, ExpertsAreDeadFromTheWindowOn) {
  const std::vector<double> counts = {1, 1, 1, 1};
  const std::vector<int64_t> unused = {0, 99, 100, 101};
  const RoutingStatistics found = routing_statistics(counts, counts, 0, 4, 0, unused, 100);
  EXPECT_EQ(found.dead_experts, 2);
  EXPECT_THAT(found.dead, ElementsAre(2, 3));
}

TEST(RoutingStatistics, SizesMustAgree) {
  const std::vector<double> two = {1, 1}, three = {1, 1, 1};
  const std::vector<int64_t> used = {0, 0};
  EXPECT_THAT(test::message_of<Error>([&] { routing_statistics(two, three, 0, 1, 0, used, 1); }),
              HasSubstr("probability_sums has 3 entries where 2 experts are counted"));
  EXPECT_THAT(test::message_of<Error>([&] { routing_statistics(three, three, 0, 1, 0, used, 1); }),
              HasSubstr("steps_since_used has 2"));
}

TEST(RoutingStatistics, MeasuresAreMeansOverTokensAndRows) {
  RoutingStatistics found = statistics_of({3, 1});
  EXPECT_TRUE(std::isnan(found.logit_norm));
  add_measures(found, {.logit_squares = {36, 4},
                       .logit_norm_sum = 10,
                       .z_sum = 6,
                       .num_tokens = 4,
                       .output_norm_sums = {1.5, 0},
                       .output_row_counts = {3, 0}});
  EXPECT_DOUBLE_EQ(found.logit_norm, 2.5);
  EXPECT_DOUBLE_EQ(found.z, 1.5);
  EXPECT_THAT(found.logit_rms, ElementsAre(3, 1));
  EXPECT_DOUBLE_EQ(found.expert_output_norm[0], 0.5);
  EXPECT_TRUE(std::isnan(found.expert_output_norm[1]));
  EXPECT_THAT(test::message_of<Error>([&] { add_measures(found, {}); }), HasSubstr("logit_squares has 0 entries"));
}

TEST(RoutingEvent, HoldsEveryField) {
  RoutingStatistics statistics;
  statistics.load = {0.75, 0.25};
  statistics.mean_probability = {0.5, 0.5};
  statistics.max_violation = 0.5;
  statistics.load_cv = 0.125;
  statistics.entropy = 0.8125;
  statistics.token_entropy = 0.25;
  statistics.dead_experts = 1;
  statistics.dropped_fraction = 0.0625;
  statistics.experts_per_token = 1.5;
  EXPECT_EQ(routing_event(40, 3, statistics).dump(),
            R"({"event":"routing","step":40,"layer":3,"load":[0.75,0.25],"mean_probability":[0.5,0.5],)"
            R"("max_violation":0.5,"load_cv":0.125,"entropy":0.8125,"token_entropy":0.25,"dead_experts":1,)"
            R"("dropped_fraction":0.0625,"experts_per_token":1.5})");
  statistics.logit_norm = 2;
  statistics.z = 0.5;
  statistics.logit_rms = {1, 3};
  statistics.expert_output_norm = {0.25, 4};
  EXPECT_THAT(
      routing_event(40, 3, statistics).dump(),
      ::testing::EndsWith(R"("logit_norm":2.0,"z":0.5,"logit_rms":[1.0,3.0],"expert_output_norm":[0.25,4.0]})"));
}

}  // namespace
}  // namespace switchyard
