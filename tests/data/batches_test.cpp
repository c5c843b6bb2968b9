#include "data/batches.h"

#include <cmath>
#include <numeric>
#include <set>

#include "tests/data/helpers.h"

namespace switchyard {
namespace {

using test::expect_data_error;

struct DomainSize {
  double weight;
  int64_t train;
  int64_t validation;
};

class BatchesTest : public testing::Test {
 protected:
  // Every training token is its own position, so that a window says where it is from.
  Dataset dataset_of(const std::vector<DomainSize>& sizes) {
    Dataset dataset;
    for (const DomainSize& size : sizes) {
      const std::string name = "d" + std::to_string(dataset.domains.size());
      dataset.domains.push_back({.name = name,
                                 .weight = size.weight,
                                 .train = shard_of(name + ".train", size.train, 0),
                                 .validation = shard_of(name + ".validation", size.validation, 1000000)});
    }
    return dataset;
  }

  TokenShard shard_of(const std::string& name, int64_t count, int32_t first) {
    std::vector<std::vector<int32_t>> documents(1, std::vector<int32_t>(static_cast<size_t>(count)));
    std::iota(documents[0].begin(), documents[0].end(), first);
    write_token_shard(folder_ / name, name, 2000000, documents);
    return TokenShard::open(folder_ / name);
  }

  test::TemporaryFolder folder_;
};

std::vector<int32_t> row(const TokenBatch& batch, int64_t index) {
  const auto first = batch.tokens.begin() + index * (batch.seq_length + 1);
  return {first, first + batch.seq_length + 1};
}

TEST_F(BatchesTest, WindowsAreRunsOfTokensOfTheirDomain) {
  const Dataset dataset = dataset_of({{0.5, 1000, 10}, {0.5, 777, 10}});
  const TokenBatch batch = TrainingSampler(dataset, 1, 16).batch(0, 100);
  EXPECT_EQ(batch.num_sequences, 100);
  EXPECT_EQ(batch.seq_length, 16);
  ASSERT_EQ(batch.tokens.size(), 1700u);
  ASSERT_EQ(batch.domains.size(), 100u);
  for (int64_t i = 0; i < 100; ++i) {
    const std::vector<int32_t> tokens = row(batch, i);
    const int32_t size = batch.domains[static_cast<size_t>(i)] == 0 ? 1000 : 777;
    EXPECT_LT(tokens[0], size);
    for (size_t j = 1; j < tokens.size(); ++j) ASSERT_EQ(tokens[j], (tokens[0] + static_cast<int32_t>(j)) % size);
  }
}

TEST_F(BatchesTest, ASequenceIsAFunctionOfItsNumber) {
  const Dataset dataset = dataset_of({{0.7, 5000, 10}, {0.3, 900, 10}});
  const TrainingSampler sampler(dataset, 42, 8);
  const TokenBatch whole = sampler.batch(1000, 60);
  for (const int64_t slice : {1, 3, 7, 60}) {
    std::vector<int32_t> tokens;
    std::vector<int32_t> domains;
    for (int64_t first = 0; first < 60; first += slice) {
      const TokenBatch part = TrainingSampler(dataset, 42, 8).batch(1000 + first, std::min(slice, 60 - first));
      tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
      domains.insert(domains.end(), part.domains.begin(), part.domains.end());
    }
    EXPECT_EQ(tokens, whole.tokens);
    EXPECT_EQ(domains, whole.domains);
  }
  EXPECT_NE(TrainingSampler(dataset, 43, 8).batch(1000, 60).tokens, whole.tokens);
  EXPECT_EQ(sampler.batch(int64_t{1} << 40, 3).num_sequences, 3);  // far away is no further
}

// Blocks of 1024 sequences are shuffled as a whole: as many blocks as an epoch has windows hold 1024 whole epochs.
TEST_F(BatchesTest, NoTokenIsATargetTwiceAnEpochAndEachIsEquallyOften) {
  for (const int64_t num_tokens : {17, 18, 31, 32, 33, 47, 290, 1000}) {
    const int64_t windows = num_tokens / 16;
    const Dataset dataset = dataset_of({{1.0, num_tokens, 10}});
    const TokenBatch batch = TrainingSampler(dataset, 5, 16).batch(0, windows * 1024);
    std::vector<int64_t> counts(static_cast<size_t>(num_tokens));
    for (int64_t i = 0; i < batch.num_sequences; ++i) {
      const std::vector<int32_t> tokens = row(batch, i);
      for (size_t j = 1; j < tokens.size(); ++j) ++counts[static_cast<size_t>(tokens[j])];
    }
    // Left out of an epoch with probability p: 1024 p epochs, with a standard deviation of sqrt(1024 p (1 - p)).
    const double p = static_cast<double>(num_tokens % 16) / static_cast<double>(num_tokens);
    const double room = 5 * std::sqrt(1024 * p * (1 - p));
    for (const int64_t count : counts) {
      EXPECT_LE(count, 1024);
      EXPECT_NEAR(static_cast<double>(count), 1024 * (1 - p), room) << num_tokens;
    }
  }
}

TEST_F(BatchesTest, EveryEpochHasAnOffsetOfItsOwn) {
  const Dataset dataset = dataset_of({{1.0, 1000, 10}});
  const TokenBatch batch = TrainingSampler(dataset, 5, 16).batch(0, 62 * 1024);
  std::set<int32_t> begins;
  for (int64_t i = 0; i < batch.num_sequences; ++i) begins.insert(row(batch, i)[0]);
  EXPECT_EQ(begins.size(), 1000u);
}

TEST_F(BatchesTest, DomainsFollowTheirWeightsInEveryBlock) {
  const Dataset dataset = dataset_of({{0.5, 1000, 10}, {0.3, 1000, 10}, {0.2, 1000, 10}, {0.0, 1, 10}});
  const TrainingSampler sampler(dataset, 1, 8);
  for (int64_t block = 0; block < 20; ++block) {
    std::vector<double> counts(4);
    for (const int32_t domain : sampler.batch(block * 1024, 1024).domains) counts[static_cast<size_t>(domain)] += 1;
    EXPECT_NEAR(counts[0], 512.0, 1.0);
    EXPECT_NEAR(counts[1], 307.2, 1.0);
    EXPECT_NEAR(counts[2], 204.8, 1.0);
    EXPECT_EQ(counts[3], 0);
  }
}

TEST(Mixture, IsWithinOneSequenceOfEveryShareAtEveryBlock) {
  for (const std::vector<double>& weights : std::vector<std::vector<double>>{{1.0},
                                                                             {0.5, 0.5},
                                                                             {1.0 / 3, 1.0 / 3, 1.0 / 3},
                                                                             {0.9996, 0.0002, 0.0002},
                                                                             {0.1, 0.2, 0.3, 0.4},
                                                                             {0.0, 1.0},
                                                                             {0.99999, 0.00001}}) {
    const Mixture mixture(weights);
    for (int64_t block = 0; block < 1000; ++block) {
      int64_t sum = 0;
      for (size_t d = 0; d < weights.size(); ++d) {
        const auto domain = static_cast<int64_t>(d);
        EXPECT_GE(mixture.in_block(block, domain), 0);
        sum += mixture.in_block(block, domain);
        const double share = weights[d] * 1024.0 * static_cast<double>(block);
        // one sequence, and the rounding of weights to 1 / 2^18
        EXPECT_NEAR(static_cast<double>(mixture.before(block, domain)), share,
                    1.0 + static_cast<double>(block) / 256.0);
      }
      ASSERT_EQ(sum, 1024);
    }
  }
}

TEST(Mixture, AWeightOfLessThanASequenceABlockIsMet) {
  const Mixture mixture(std::vector<double>{1.0 - 1.0 / 8192, 1.0 / 8192});
  EXPECT_EQ(mixture.before(8, 1), 1);
  EXPECT_EQ(mixture.before(800, 1), 100);
  EXPECT_EQ(mixture.before(int64_t{8} << 40, 1), int64_t{1} << 40);
}

TEST(Mixture, ManyTinyWeightsAllGetSomething) {
  std::vector<double> weights(300, 1e-9);
  weights.push_back(1.0 - 300e-9);
  const Mixture mixture(weights);
  for (int64_t d = 0; d < 300; ++d) EXPECT_EQ(mixture.before(Mixture::kPeriod, d), 1);
}

TEST_F(BatchesTest, EpochCountsTheDomainsOwnWindows) {
  const Dataset dataset = dataset_of({{0.75, 1030, 10}, {0.25, 512, 10}});  // 128 and 64 windows of 8
  const TrainingSampler sampler(dataset, 9, 8);
  EXPECT_EQ(sampler.epoch(0, 0), 0.0);
  EXPECT_EQ(sampler.epoch(1024, 0), 768.0 / 128);
  EXPECT_EQ(sampler.epoch(2048, 1), 512.0 / 64);
  const TokenBatch batch = sampler.batch(0, 1500);
  const auto drawn = std::count(batch.domains.begin(), batch.domains.end(), 1);
  EXPECT_EQ(sampler.epoch(1500, 1), static_cast<double>(drawn) / 64);
}

TEST_F(BatchesTest, TooShortADomainIsNamedUnlessItsWeightIsZero) {
  const Dataset dataset = dataset_of({{1.0, 16, 16}});
  expect_data_error([&] { TrainingSampler(dataset, 1, 16); }, {"'d0'", "16 tokens", "takes 17"});
  expect_data_error([&] { validation_batches(dataset, 0, 1, 0, 16); }, {"'d0'", "validation", "takes 17"});
  expect_data_error([&] { TrainingSampler(dataset, 1, 0); }, {"seq_length"});
  EXPECT_EQ(TrainingSampler(dataset_of({{0.0, 1, 1}, {1.0, 100, 1}}), 1, 16).batch(0, 5).domains,
            std::vector<int32_t>(5, 1));
}

TEST_F(BatchesTest, ValidationWindowsDoNotOverlapAndComeFromValidation) {
  const Dataset dataset = dataset_of({{1.0, 100, 1000}});  // 99 windows of 10
  const auto batches = validation_batches(dataset, 0, 4, 5, 10);
  ASSERT_EQ(batches.size(), 5u);
  std::vector<int32_t> begins;
  for (const TokenBatch& batch : batches) {
    EXPECT_EQ(batch.num_sequences, 4);
    EXPECT_EQ(batch.domains, std::vector<int32_t>(4, 0));
    for (int64_t i = 0; i < 4; ++i) begins.push_back(row(batch, i)[0] - 1000000);
  }
  for (size_t i = 0; i < begins.size(); ++i) {
    EXPECT_EQ(begins[i], static_cast<int32_t>(i * 99 / 20 * 10));  // by hand: 0, 40, 90, 140, 190, ...
  }
  EXPECT_EQ(validation_batches(dataset, 0, 4, 5, 10)[3].tokens, batches[3].tokens);
}

TEST_F(BatchesTest, AllOfValidationWhenAskedForOrWhenThereIsNoMore) {
  const Dataset dataset = dataset_of({{1.0, 100, 101}});  // 10 windows of 10
  for (const int64_t wanted : {int64_t{0}, int64_t{3}, INT64_MAX}) {
    const auto batches = validation_batches(dataset, 0, 4, wanted, 10);
    ASSERT_EQ(batches.size(), 3u);
    EXPECT_EQ(batches[2].num_sequences, 2);
    EXPECT_EQ(row(batches[2], 1).back(), 1000100);
  }
  EXPECT_EQ(validation_batches(dataset, 0, 5, 2, 10).size(), 2u);
}

TEST_F(BatchesTest, WhatIsLeftOfValidationIsCountedOnce) {
  const Dataset dataset = dataset_of({{1.0, 100, 108}});  // 107 targets: 10 windows of 10, and 7 more
  for (const int64_t batch_size : {1, 4, 5, 11, 20}) {
    std::vector<int> counts(108);
    int64_t targets = 0;
    for (const TokenBatch& batch : validation_batches(dataset, 0, batch_size, 0, 10)) {
      targets += batch.num_targets();
      for (int64_t i = 0; i < batch.num_sequences; ++i) {
        const auto tokens = row(batch, i);
        const bool last = i == batch.num_sequences - 1;
        for (size_t j = 1 + static_cast<size_t>(last ? batch.repeated_targets : 0); j < tokens.size(); ++j) {
          ++counts[static_cast<size_t>(tokens[j] - 1000000)];
        }
      }
    }
    EXPECT_EQ(targets, 107);
    EXPECT_EQ(counts[0], 0);
    EXPECT_EQ(std::count(counts.begin(), counts.end(), 1), 107);
  }
  EXPECT_EQ(validation_batches(dataset, 0, 5, 2, 10).back().repeated_targets, 0);
}

}  // namespace
}  // namespace switchyard
