#include "metrics/expert_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/errors.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

// Tokens choose neighbours of 0 4, 1 5, 2 6, 3 7 mostly.
const ExpertSets kPairs = {{{0, 4}, 10}, {{1, 5}, 9}, {{2, 6}, 8}, {{3, 7}, 7}, {{0, 1}, 3}, {{6, 7}, 2}};

ExpertSets random_sets(int64_t experts, int64_t top_k, uint32_t seed) {
  std::mt19937 random(seed);
  ExpertSets sets;
  std::vector<int32_t> all(static_cast<size_t>(experts));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  for (int i = 0; i < 300; ++i) {
    std::shuffle(all.begin(), all.end(), random);
    std::vector<int32_t> set(all.begin(), all.begin() + top_k);
    std::sort(set.begin(), set.end());
    sets[set] += 1 + static_cast<int64_t>(random() % 5);
  }
  return sets;
}

TEST(ExpertPlacement, CostByHand) {
  // In order, ranks hold 0 1, 2 3, 4 5, 6 7: only {0, 1} and {6, 7}, 5 of 39 tokens, find both experts on one.
  const PlacementCost before = placement_cost(kPairs, experts_in_order(8), 4);
  EXPECT_DOUBLE_EQ(before.choices_per_token, 2);
  EXPECT_DOUBLE_EQ(before.ranks_per_token, 2 - 5 / 39.0);
  // The busiest rank has experts 0 (13) and 1 (12); 78 choices over 4 ranks are 19.5 each.
  EXPECT_DOUBLE_EQ(before.imbalance, 25 / 19.5);
  EXPECT_DOUBLE_EQ(placement_cost(kPairs, experts_in_order(8), 1).ranks_per_token, 1);
  EXPECT_DOUBLE_EQ(placement_cost({}, experts_in_order(8), 2).ranks_per_token, 0);
}

TEST(ExpertPlacement, PutsTogetherWhatIsChosenTogether) {
  const ExpertOrdering order = place_experts(kPairs, 8, 4);
  EXPECT_THAT(order, ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
  EXPECT_DOUBLE_EQ(placement_cost(kPairs, order, 4).ranks_per_token, 2 - 34 / 39.0);
  // Two ranks can hold the ring 4 0 1 5 and the other one whole: every token stays on one rank.
  EXPECT_DOUBLE_EQ(placement_cost(kPairs, place_experts(kPairs, 8, 2), 2).ranks_per_token, 1);
}

TEST(ExpertPlacement, ExchangesUndoWhatTheGreedyStartGotWrong) {
  // 0 is the busiest and tied most to 1, which belongs to 2 and 3 far more.
  const ExpertSets sets = {{{0, 1}, 10}, {{1, 2}, 9}, {{1, 3}, 9}, {{2, 3}, 1}, {{0, 4}, 9}, {{0, 5}, 9}};
  EXPECT_THAT(place_experts(sets, 6, 2), ElementsAre(0, 4, 5, 1, 2, 3));
}

TEST(ExpertPlacement, NeverWorseAPermutationAndTheSameTwice) {
  for (const int64_t top_k : {1, 2, 4}) {
    for (const int64_t groups : {1, 2, 4, 8}) {
      const ExpertSets sets = random_sets(16, top_k, static_cast<uint32_t>(10 * top_k + groups));
      const ExpertOrdering order = place_experts(sets, 16, 4, groups);
      EXPECT_THAT(order, UnorderedElementsAreArray(experts_in_order(16)));
      EXPECT_LE(placement_cost(sets, order, 4).ranks_per_token,
                placement_cost(sets, experts_in_order(16), 4).ranks_per_token);
      EXPECT_EQ(order, place_experts(sets, 16, 4, groups));
      const int64_t size = 16 / groups;
      for (size_t place = 0; place < order.size(); ++place) {
        const size_t first = place - place % static_cast<size_t>(size);
        EXPECT_EQ(order[place] / size, order[first] / size) << "groups stay neighbours";
      }
    }
  }
}

TEST(ExpertPlacement, WholeGroupsMove) {
  // Groups of two: {0 1} with {4 5}, {2 3} with {6 7}.
  const ExpertSets sets = {{{0, 4}, 5}, {{1, 5}, 5}, {{2, 7}, 5}};
  EXPECT_THAT(place_experts(sets, 8, 2, 4), ElementsAre(0, 1, 4, 5, 2, 3, 6, 7));
}

TEST(ExpertPlacement, RefusesWhatDoesNotDivide) {
  EXPECT_THROW(place_experts({}, 8, 3), ConfigError);
  try {
    place_experts({}, 12, 4, 6);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("4 ranks split 6 groups unevenly"));
  }
}

}  // namespace
}  // namespace switchyard
