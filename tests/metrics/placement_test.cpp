#include "metrics/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard {
namespace {

using ::testing::ElementsAre;

// Tokens that choose 0 and 2, 0 and 2, 1 and 3, 0 and 1.
const TokenChoices kStep{.begin = {0, 2, 4, 6, 8}, .choices = {0, 2, 2, 0, 1, 3, 0, 1}};

TEST(TokenChoices, CountsByHand) {
  EXPECT_THAT(loads_of({kStep, kStep}, 5), ElementsAre(6, 4, 4, 2, 0));
  EXPECT_THAT(pairs_of({kStep}, 4), ElementsAre(ElementsAre(3, 1, 2, 0), ElementsAre(1, 2, 0, 1),
                                                ElementsAre(2, 0, 2, 0), ElementsAre(0, 1, 0, 1)));
  EXPECT_EQ(experts_touched(kStep, 6), 4);
  EXPECT_DOUBLE_EQ(load_imbalance(kStep, 6), 3 * 6 / 8.0);
  EXPECT_EQ(experts_touched({}, 6), 0);
  EXPECT_DOUBLE_EQ(load_imbalance({}, 6), 1);
}

TEST(TouchedByChance, ByHand) {
  EXPECT_DOUBLE_EQ(touched_by_chance(8, 2, 1), 2);
  EXPECT_DOUBLE_EQ(touched_by_chance(8, 2, 2), 8 * (1 - 0.75 * 0.75));
  EXPECT_DOUBLE_EQ(touched_by_chance(4, 4, 1), 4);
}

TEST(Placement, ByIndexAndByLoad) {
  EXPECT_EQ(place_by_index(5, 2), (Placement{{0}, {0}, {0}, {1}, {1}}));
  EXPECT_EQ(place_by_index(2, 4), (Placement{{0}, {2}}));
  // 9 to device 0; 5 and 4 to device 1, which is full then; 1 to device 0.
  EXPECT_EQ(place_by_load({1, 5, 9, 4}, 2), (Placement{{0}, {1}, {0}, {1}}));
}

TEST(Placement, ByPairsKeepsTogetherWhatIsChosenTogether) {
  EXPECT_EQ(place_by_pairs(pairs_of({kStep}, 4), 2), (Placement{{0}, {1}, {0}, {1}}));
}

TEST(Placement, ReplicationTakesTheHottest) {
  EXPECT_EQ(replicate_hottest(place_by_index(3, 3), {1, 7, 2}, 1, 3), (Placement{{0}, {0, 1, 2}, {2}}));
}

TEST(PlacementEffect, ByHand) {
  // Experts 0, 1 | 2, 3: five assignments against three; the tokens need 2, 2, 2 and 1 devices.
  const PlacementEffect by_index = placement_effect({kStep}, place_by_index(4, 2), 2);
  EXPECT_DOUBLE_EQ(by_index.imbalance, 1.25);
  EXPECT_DOUBLE_EQ(by_index.devices_per_token, 7 / 4.0);
  // Experts 0, 2 | 1, 3: five against three; 1, 1, 1 and 2 devices.
  const PlacementEffect together = placement_effect({kStep}, place_by_pairs(pairs_of({kStep}, 4), 2), 2);
  EXPECT_DOUBLE_EQ(together.imbalance, 1.25);
  EXPECT_DOUBLE_EQ(together.devices_per_token, 5 / 4.0);
  // Expert 0 on both: two assignments and two of its own against three and one of its own; 1, 1, 2 and 1 devices.
  const PlacementEffect replicated =
      placement_effect({kStep}, replicate_hottest(place_by_index(4, 2), loads_of({kStep}, 4), 1, 2), 2);
  EXPECT_DOUBLE_EQ(replicated.imbalance, 1);
  EXPECT_DOUBLE_EQ(replicated.devices_per_token, 5 / 4.0);
  // The lightest device takes all where the other is too heavy: 5 and 1 + 1 against a mean of 3.5.
  const TokenChoices uneven{.begin = {0, 7}, .choices = {0, 0, 0, 0, 0, 1, 2}};
  EXPECT_DOUBLE_EQ(placement_effect({uneven}, {{0}, {1}, {0, 1}}, 2).imbalance, 5 / 3.5);
  EXPECT_DOUBLE_EQ(placement_effect({}, place_by_index(4, 2), 2).devices_per_token, 0);
}

}  // namespace
}  // namespace switchyard
