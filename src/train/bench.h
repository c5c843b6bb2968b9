// How fast the training step of a configuration runs on this machine.
#pragma once

#include "base/json.h"
#include "config/config.h"

namespace switchyard {

struct BenchOptions {
  int64_t warmup_steps = 3;
  int64_t steps = 10;
  std::string trace;  // file for a Chrome trace of one step, or empty
};

// Steps on random tokens (no data is read; vocab_size defaults to 8192), every part of a real step included. Returns
//   tokens_per_second, step_seconds (both of the median step), step_seconds_min, step_seconds_max,
//   flops_per_token, recomputed_flops_per_token (which the rates leave out), flops_per_second,
//   gemm_flops_per_second (the best of three square products of size 1024 at the
//   run's precision, measured right before), gemm_flops_share (the ratio of the two), peak_memory_bytes (the process's
//   largest resident set), parameters, active_parameters, tokens_per_step, precision, threads (a rank), ranks, rank,
//   instruction_set, loss, parts (seconds of a step by part, see ops/step_parts.h: the mean of further steps that are
//   timed part by part).
// Started by a launcher, the ranks share the steps; speeds are then those of all together, the rest
// that of one rank.
OrderedJson run_bench(const Config& config, const BenchOptions& options);

// FLOP/s of square matrix products of size 1024 at the precision and with the threads of `config`: the best of three.
double measure_gemm_rate(const Config& config);

// The largest resident set of this process so far, in bytes.
int64_t peak_memory_bytes();

}  // namespace switchyard
