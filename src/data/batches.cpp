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

// `out.size()` tokens from `begin` on, the first after the last.
void copy_around(const TokenShard& shard, int64_t begin, std::span<int32_t> out) {
  const auto rest = static_cast<size_t>(shard.num_tokens() - begin);
  shard.copy_tokens(begin, out.first(std::min(rest, out.size())));
  if (rest < out.size()) shard.copy_tokens(0, out.subspan(rest));
}

// Windows of a validation shard: `count` beginnings at multiples of seq_length.
struct ValidationWindows {
  int64_t whole = 0;     // that the shard holds
  int64_t count = 0;     // that are evaluated
  int64_t repeated = 0;  // if all are and a rest is left: the targets by which the last window reaches back
};

ValidationWindows windows_evaluated(const Domain& domain, int64_t batch_size, int64_t batches, int64_t seq_length) {
  const int64_t num_tokens = domain.validation.num_tokens();
  check_window(domain.name, "validation", num_tokens, seq_length);
  const int64_t whole = (num_tokens - 1) / seq_length;
  const int64_t rest = (num_tokens - 1) % seq_length;
  if (batches > 0 && batches <= whole / batch_size) return {.whole = whole, .count = batches * batch_size};
  return {.whole = whole, .count = whole + (rest > 0 ? 1 : 0), .repeated = rest > 0 ? seq_length - rest : 0};
}

// Where evaluated window n of those begins.
int64_t begin_of_window(const ValidationWindows& windows, int64_t n, int64_t seq_length) {
  if (windows.count > windows.whole) return n * seq_length - (n == windows.whole ? windows.repeated : 0);
  // floor(n * whole / count) without the product, which may overflow
  return (n * (windows.whole / windows.count) + n * (windows.whole % windows.count) / windows.count) * seq_length;
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
    copy_around(dataset_.domains[static_cast<size_t>(drawn.domain)].train, begin_of(drawn), row(batch, i));
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
  return dataset_.domains[static_cast<size_t>(domain)].train.num_tokens() / seq_length_;
}

int64_t TrainingSampler::begin_of(const Slot& slot) const {
  const int64_t count = windows(slot.domain);
  const int64_t epoch = slot.index / count;
  const uint64_t domain_epoch = decide(seed_, kOrderInEpoch, slot.domain, epoch);
  const RandomPermutation order(domain_epoch, static_cast<uint64_t>(count));
  const auto window = static_cast<int64_t>(order(static_cast<uint64_t>(slot.index % count)));
  const int64_t num_tokens = dataset_.domains[static_cast<size_t>(slot.domain)].train.num_tokens();
  const uint64_t word = decide(seed_, kOffsetOfEpoch, slot.domain, epoch);
  const auto offset = static_cast<int64_t>(word % static_cast<uint64_t>(num_tokens));
  return (offset + window * seq_length_) % num_tokens;
}

int64_t num_validation_batches(const Dataset& dataset, const Config& config) {
  const TrainingConfig& training = config.training;
  int64_t all = 0;
  for (const Domain& domain : dataset.domains) {
    const int64_t windows =
        windows_evaluated(domain, training.micro_batch_size, config.eval.batches, training.seq_length).count;
    all += (windows + training.micro_batch_size - 1) / training.micro_batch_size;
  }
  return all;
}

std::vector<TokenBatch> validation_batches(const Dataset& dataset, int64_t domain, int64_t batch_size, int64_t batches,
                                           int64_t seq_length) {
  const Domain& source = dataset.domains.at(static_cast<size_t>(domain));
  const ValidationWindows windows = windows_evaluated(source, batch_size, batches, seq_length);
  std::vector<TokenBatch> result;
  for (int64_t first = 0; first < windows.count; first += batch_size) {
    TokenBatch batch = empty_batch(std::min(batch_size, windows.count - first), seq_length);
    std::fill(batch.domains.begin(), batch.domains.end(), static_cast<int32_t>(domain));
    for (int64_t i = 0; i < batch.num_sequences; ++i) {
      source.validation.copy_tokens(begin_of_window(windows, first + i, seq_length), row(batch, i));
    }
    result.push_back(std::move(batch));
  }
  result.back().repeated_targets = windows.repeated;
  return result;
}

}  // namespace switchyard
