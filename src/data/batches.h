// Which tokens go into which step: pure functions of (seed, index), nothing to save.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "data/mixture.h"

namespace switchyard {

struct TokenBatch {
  int64_t num_sequences = 0;     // B
  int64_t seq_length = 0;        // S
  std::vector<int32_t> tokens;   // [B, S + 1], row-major: inputs are [:, :S], targets [:, 1:]
  std::vector<int32_t> domains;  // [B], index into Dataset::domains
  // How many first targets of the last sequence are those of an earlier sequence, too, and not to be counted again.
  int64_t repeated_targets = 0;

  int64_t num_targets() const { return num_sequences * seq_length - repeated_targets; }
};

// Training sequences. Sequence number n (counted over the whole run, all ranks and accumulation steps) is a pure
// function of (dataset, seed, n): its domain follows the weights exactly within every block of 1024 sequences
// (remainders are carried over to the next blocks, see mixture.h), and the domain's windows of seq_length are visited
// once an epoch in an order and with an offset drawn anew each epoch. A domain of weight 0 is never drawn. A window is
// seq_length + 1 tokens, neighbours share one; a domain of N tokens has N / seq_length windows an epoch. They lie on a
// ring on which the first token follows the last, from any of its N places on: every token is a target equally often.
// Any thread may call any function.
class TrainingSampler {
 public:
  // `dataset` must outlive the sampler. Throws DataError naming a domain too short for one window.
  TrainingSampler(const Dataset& dataset, uint64_t seed, int64_t seq_length);

  // Sequences [first, first + count), first >= 0. A rank asks for its own slice of a step's global batch.
  TokenBatch batch(int64_t first, int64_t count) const;
  // How often the whole domain had been seen before sequence `n` was drawn, as a fraction (0.5 = half an epoch).
  double epoch(int64_t n, int64_t domain) const;

 private:
  struct Slot {
    int32_t domain;
    int64_t index;  // its number among all windows of that domain, over all epochs
  };
  Slot slot(int64_t n) const;
  int64_t windows(int64_t domain) const;
  int64_t begin_of(const Slot& slot) const;

  const Dataset& dataset_;
  uint64_t seed_;
  int64_t seq_length_;
  Mixture mixture_;
};

// How many validation_batches() of all domains an evaluation of `config` takes.
int64_t num_validation_batches(const Dataset& dataset, const Config& config);

// Validation windows of one domain: `batches` batches of `batch_size` sequences, evenly spaced over the validation
// shard, without overlap; when batches is 0 or the shard holds fewer, windows that have each of its tokens but the
// first as a target once. Only then the last batch may be smaller, and its last window repeats targets. Always the same
// ones. Throws DataError naming a domain whose validation text is shorter than one window.
std::vector<TokenBatch> validation_batches(const Dataset& dataset, int64_t domain, int64_t batch_size, int64_t batches,
                                           int64_t seq_length);

}  // namespace switchyard
