#include "metrics/information.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace switchyard {
namespace {

TEST(Entropy, ByHand) {
  EXPECT_DOUBLE_EQ(entropy_in_nats(std::vector<double>{5, 5}), std::log(2.0));
  EXPECT_DOUBLE_EQ(entropy_in_nats(std::vector<double>{0, 7, 0}), 0);
  EXPECT_NEAR(entropy_in_nats(std::vector<double>{2, 1, 1}), 1.5 * std::log(2.0), 1e-15);
  EXPECT_EQ(entropy_in_nats(std::vector<double>{0, 0}), 0);
}

TEST(MutualInformation, IsZeroForIndependentLabels) {
  EXPECT_NEAR(mutual_information({{1, 2, 3}, {2, 4, 6}}), 0, 1e-15);
  EXPECT_EQ(mutual_information({{0, 0}, {0, 0}}), 0);
  EXPECT_EQ(mutual_information({}), 0);
  EXPECT_EQ(explained_share({{3, 4}}), 0);
}

TEST(MutualInformation, IsTheEntropyWhereOneLabelGivesTheOther) {
  EXPECT_DOUBLE_EQ(mutual_information({{4, 0}, {0, 4}}), std::log(2.0));
  EXPECT_DOUBLE_EQ(explained_share({{4, 0}, {0, 4}}), 1);
  EXPECT_DOUBLE_EQ(explained_share({{1, 3, 0}, {0, 0, 4}}), 1);
}

// Shares 1/4, 0 / 1/4, 1/2; rows 1/4, 3/4; columns 1/2, 1/2:
// 1/4 ln 2 + 1/4 ln(2/3) + 1/2 ln(4/3), of H(row) = ln 4 - 3/4 ln 3.
TEST(MutualInformation, ByHand) {
  const CountTable counts = {{1, 0}, {1, 2}};
  const double expected = 0.25 * std::log(2.0) + 0.25 * std::log(2 / 3.0) + 0.5 * std::log(4 / 3.0);
  EXPECT_NEAR(mutual_information(counts), expected, 1e-15);
  EXPECT_NEAR(explained_share(counts), expected / (std::log(4.0) - 0.75 * std::log(3.0)), 1e-15);
}

TEST(CountsByLabel, AreThoseOfALoop) {
  const LabelledChoices units{
      .labels = {1, 0, 1}, .begin = {0, 2, 2, 5}, .choices = {0, 2, 2, 2, 1}, .num_labels = 2, .num_choices = 3};
  EXPECT_EQ(count_choices_by_label(units), (CountTable{{0, 0, 0}, {1, 1, 3}}));
}

// Four units whose label gives the choice. Of the six ways to spread two labels of each kind over them, two give ln 2
// and four give nothing.
TEST(PermutationBaseline, ApproachesTheExactDistribution) {
  const LabelledChoices units{
      .labels = {0, 0, 1, 1}, .begin = {0, 1, 2, 3, 4}, .choices = {0, 0, 1, 1}, .num_labels = 2, .num_choices = 2};
  const PermutationBaseline found = permutation_baseline(units, 20000, 1);
  EXPECT_NEAR(found.mean, std::log(2.0) / 3, 0.01);
  EXPECT_NEAR(found.p_value, 1.0 / 3, 0.015);
  EXPECT_DOUBLE_EQ(found.highest, std::log(2.0));
  EXPECT_EQ(found.mean, permutation_baseline(units, 20000, 1).mean);
  EXPECT_NE(found.mean, permutation_baseline(units, 20000, 2).mean);
}

// Kind 0: label and choice are the same, ln 2 nats. Kind 1, half as often: independent. H(label | kind) is ln 2 in
// both.
TEST(ConditionalInformation, ByHand) {
  const std::vector<int32_t> labels = {0, 1};
  const KindedChoices units{.part_begin = {0, 3, 6},
                            .kinds = {0, 0, 1, 1, 0, 0},
                            .begin = {0, 2, 4, 6, 8, 10, 12},
                            .choices = {0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1},
                            .num_kinds = 2,
                            .num_labels = 2,
                            .num_choices = 2};
  EXPECT_NEAR(conditional_information(units, labels), 2 / 3.0 * std::log(2.0), 1e-15);
  EXPECT_NEAR(conditional_label_entropy(units, labels), std::log(2.0), 1e-15);
  EXPECT_EQ(conditional_information(units, {0, 0}), 0);
}

// What the kind tells already is not counted: each label has its own kind.
TEST(ConditionalInformation, IsZeroWhereTheKindSaysItAll) {
  const KindedChoices units{.part_begin = {0, 1, 2},
                            .kinds = {0, 1},
                            .begin = {0, 2, 4},
                            .choices = {0, 0, 1, 1},
                            .num_kinds = 2,
                            .num_labels = 2,
                            .num_choices = 2};
  EXPECT_EQ(conditional_information(units, {0, 1}), 0);
  EXPECT_EQ(conditional_label_entropy(units, {0, 1}), 0);
}

// 60 texts of 50 tokens. Related: a text's tokens mostly take the expert of its label. Unrelated: one at random.
LabelledChoices sixty_texts(bool related) {
  LabelledChoices units{.labels = {}, .begin = {0}, .choices = {}, .num_labels = 3, .num_choices = 3};
  for (uint64_t text = 0; text < 60; ++text) {
    units.labels.push_back(static_cast<int32_t>(text % 3));
    for (uint64_t token = 0; token < 50; ++token) {
      const uint64_t word = random_word(9, RandomPurpose::kSampling, {text, token});
      units.choices.push_back(static_cast<int32_t>(related && word % 2 == 0 ? text % 3 : word / 2 % 3));
    }
    units.begin.push_back(static_cast<int64_t>(units.choices.size()));
  }
  return units;
}

TEST(PermutationBaseline, TellsRelatedFromUnrelatedLabels) {
  const PermutationBaseline related = permutation_baseline(sixty_texts(true), 200, 3);
  EXPECT_DOUBLE_EQ(related.p_value, 1.0 / 201);
  EXPECT_GT(mutual_information(count_choices_by_label(sixty_texts(true))), 5 * related.highest);
  const PermutationBaseline unrelated = permutation_baseline(sixty_texts(false), 200, 3);
  EXPECT_GT(unrelated.p_value, 0.05);
  // Independent tokens: about (rows - 1)(columns - 1) / 2 tokens.
  EXPECT_NEAR(unrelated.mean, 4.0 / (2 * 3000), 2e-4);
}

}  // namespace
}  // namespace switchyard
