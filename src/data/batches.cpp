#include "data/batches.h"

#include <algorithm>

#include "base/errors.h"
#include "base/random.h"

namespace switchyard {
namespace {

// What a word of RandomPurpose::kDataOrder decides: the index after the seed.
enum Decision : uint64_t { kOrderInBlock = 1, kOrderInEpoch = 2, kOffsetOfEpoch = 3 };

uint64_t decide(uint64_t seed, Decision decision, int64_t first, int64_t second = 0) {
  return random_word(seed, RandomPurpose::kDataOrder,
                     {decision, static_cast<uint64_t>(first), static_cast<uint64_t>(second)});
}

std::vector<double> weights_of(const Dataset& dataset) {
  std::vector<double> weights;
  for (const Domain& domain : dataset.domains) weights.push_back(domain.weight);
  return weights;
}

void check_window(const std::string& domain, const char* side, int64_t num_tokens, int64_t seq_length) {
  if (seq_length < 1) throw DataError("training.seq_length is " + std::to_string(seq_length) + ", it must be positive");
  if (num_tokens > seq_length) return;
  throw DataError("domain '" + domain + "' has " + std::to_string(num_tokens) + " tokens of " + side +
                  " text, one window of training.seq_length = " + std::to_string(seq_length) + " takes " +
                  std::to_string(seq_length + 1));
}

TokenBatch empty_batch(int64_t num_sequences, int64_t seq_length) {
  return {.num_sequences = num_sequences,
          .seq_length = seq_length,
          .tokens = std::vector<int32_t>(static_cast<size_t>(num_sequences * (seq_length + 1))),
          .domains = std::vector<int32_t>(static_cast<size_t>(num_sequences))};
}

std::span<int32_t> row(TokenBatch& batch, int64_t index) {
  const auto width = static_cast<size_t>(batch.seq_length + 1);
  return std::span(batch.tokens).subspan(static_cast<size_t>(index) * width, width);
}

int64_t windows_of(const Domain& domain, int64_t seq_length) {
  check_window(domain.name, "validation", domain.validation.num_tokens(), seq_length);
  return (domain.validation.num_tokens() - 1) / seq_length;
}

int64_t windows_evaluated(const Domain& domain, int64_t batch_size, int64_t batches, int64_t seq_length) {
  const int64_t available = windows_of(domain, seq_length);
  return batches > 0 && batches <= available / batch_size ? batches * batch_size : available;
}

}  // namespace

TrainingSampler::TrainingSampler(const Dataset& dataset, uint64_t seed, int64_t seq_length)
    : dataset_(dataset), seed_(seed), seq_length_(seq_length), mixture_(weights_of(dataset)) {
  for (const Domain& domain : dataset.domains) {
    if (domain.weight > 0) check_window(domain.name, "training", domain.train.num_tokens(), seq_length);
  }
}

TokenBatch TrainingSampler::batch(int64_t first, int64_t count) const {
  TokenBatch batch = empty_batch(count, seq_length_);
  for (int64_t i = 0; i < count; ++i) {
    const Slot drawn = slot(first + i);
    batch.domains[static_cast<size_t>(i)] = drawn.domain;
    dataset_.domains[static_cast<size_t>(drawn.domain)].train.copy_tokens(begin_of(drawn), row(batch, i));
  }
  return batch;
}

double TrainingSampler::epoch(int64_t n, int64_t domain) const {
  const int64_t block = n / Mixture::kBlock;
  int64_t drawn = mixture_.before(block, domain);
  for (int64_t i = block * Mixture::kBlock; i < n; ++i) drawn += slot(i).domain == domain ? 1 : 0;
  return static_cast<double>(drawn) / static_cast<double>(windows(domain));
}

TrainingSampler::Slot TrainingSampler::slot(int64_t n) const {
  const int64_t block = n / Mixture::kBlock;
  const RandomPermutation order(decide(seed_, kOrderInBlock, block), static_cast<uint64_t>(Mixture::kBlock));
  auto place = static_cast<int64_t>(order(static_cast<uint64_t>(n % Mixture::kBlock)));
  int64_t domain = 0;
  for (; place >= mixture_.in_block(block, domain); ++domain) place -= mixture_.in_block(block, domain);
  return {.domain = static_cast<int32_t>(domain), .index = mixture_.before(block, domain) + place};
}

int64_t TrainingSampler::windows(int64_t domain) const {
  const int64_t num_tokens = dataset_.domains[static_cast<size_t>(domain)].train.num_tokens();
  return std::max<int64_t>(1, num_tokens / seq_length_ - 1);
}

int64_t TrainingSampler::begin_of(const Slot& slot) const {
  const int64_t count = windows(slot.domain);
  const int64_t epoch = slot.index / count;
  const uint64_t domain_epoch = decide(seed_, kOrderInEpoch, slot.domain, epoch);
  const RandomPermutation order(domain_epoch, static_cast<uint64_t>(count));
  const auto window = static_cast<int64_t>(order(static_cast<uint64_t>(slot.index % count)));
  // A domain of less than two windows leaves less room.
  const int64_t num_tokens = dataset_.domains[static_cast<size_t>(slot.domain)].train.num_tokens();
  const int64_t offsets = std::min(seq_length_, num_tokens - count * seq_length_);
  const uint64_t word = decide(seed_, kOffsetOfEpoch, slot.domain, epoch);
  return static_cast<int64_t>(word % static_cast<uint64_t>(offsets)) + window * seq_length_;
}

int64_t num_validation_batches(const Dataset& dataset, const Config& config) {
  const TrainingConfig& training = config.training;
  int64_t all = 0;
  for (const Domain& domain : dataset.domains) {
    const int64_t windows =
        windows_evaluated(domain, training.micro_batch_size, config.eval.batches, training.seq_length);
    all += (windows + training.micro_batch_size - 1) / training.micro_batch_size;
  }
  return all;
}

std::vector<TokenBatch> validation_batches(const Dataset& dataset, int64_t domain, int64_t batch_size, int64_t batches,
                                           int64_t seq_length) {
  const Domain& source = dataset.domains.at(static_cast<size_t>(domain));
  const int64_t available = windows_of(source, seq_length);
  const int64_t count = windows_evaluated(source, batch_size, batches, seq_length);
  std::vector<TokenBatch> result;
  for (int64_t first = 0; first < count; first += batch_size) {
    TokenBatch batch = empty_batch(std::min(batch_size, count - first), seq_length);
    std::fill(batch.domains.begin(), batch.domains.end(), static_cast<int32_t>(domain));
    for (int64_t i = 0; i < batch.num_sequences; ++i) {
      // floor((first + i) * available / count) without the product, which may overflow
      const int64_t n = first + i;
      const int64_t window = n * (available / count) + n * (available % count) / count;
      source.validation.copy_tokens(window * seq_length, row(batch, i));
    }
    result.push_back(std::move(batch));
  }
  return result;
}

}  // namespace switchyard
