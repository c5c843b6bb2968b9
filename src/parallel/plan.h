// What a configuration needs and does on many ranks, by arithmetic: memory, bytes and time of every layout.
// A rank is a process with its share of a machine; on GPUs one rank is one GPU, and the same formulas hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"

namespace switchyard {

// What one rank has.
struct RankResources {
  int64_t ranks_per_node = 1;
  double memory = 0;           // bytes
  double flops = 0;            // FLOP/s of matrix products
  double efficiency = 1;       // the training step's FLOP/s, recomputed ones included, / flops
  double intra_bandwidth = 0;  // bytes/s that it can send to ranks of its node
  double inter_bandwidth = 0;  // bytes/s that it can send to ranks of other nodes
};

struct RankLayout {
  int64_t ranks = 1;            // N, all data parallel
  int64_t expert_parallel = 1;  // P, ranks that share one copy of the experts; N / P ranks hold the same ones
  bool distributed_optimizer = false;
};

// Bytes of one rank.
struct RankMemory {
  double weights = 0;
  double gradients = 0;
  double buckets = 0;      // gradients to be summed, flat, and where sharded the part that this rank gets
  double optimizer = 0;    // two moments, of this rank's part where sharded
  double activations = 0;  // of one micro-batch, the experts evenly used
  // On the CPU, where sharded: what the ranks sent, before it is added up.
  double sums = 0;
  double peak = 0;   // all of it where a step needs most
  double worst = 0;  // the same if all tokens of the expert-parallel group chose experts of this rank, in every layer
};

// Bytes that one rank sends in a step, as Group::bytes_sent() counts them, the experts evenly used.
struct RankTraffic {
  double dispatch = 0;    // rows to experts and back, and their gradients
  double gradients = 0;   // all-reduced, or reduce-scattered where sharded
  double parameters = 0;  // gathered where sharded
  double statistics = 0;  // losses, loads, routing statistics
  double total() const { return dispatch + gradients + parameters + statistics; }
};

// Seconds of a step.
struct StepTime {
  double compute = 0;
  double communication = 0;  // all of it
  double hidden = 0;         // behind computation
  double total() const { return compute + communication - hidden; }
};

struct PlannedLayout {
  RankLayout layout;
  RankMemory memory;
  RankTraffic traffic;
  StepTime time;
  bool fits = false;         // peak <= memory of a rank
  bool always_fits = false;  // worst <= memory of a rank
};

struct Plan {
  std::vector<PlannedLayout> layouts;
  size_t best = 0;
  std::string reason;  // why that one
};

// All functions take a resolved config with model.vocab_size set.

// Every P that divides the ranks and the experts, each without and with the distributed optimizer (one rank: without).
// Throws ConfigError if `ranks` does not divide the micro-batches of a step.
std::vector<RankLayout> possible_layouts(const Config& config, int64_t ranks);

RankMemory plan_memory(const Config& config, const RankLayout& layout);
RankTraffic plan_traffic(const Config& config, const RankLayout& layout);

// compute = training FLOPs of the rank's tokens, recomputed ones included, / (flops * efficiency). communication =
// bytes / bandwidth, no latency: of dispatch, what goes to ranks of the node and to others travels at the same time,
// each over its own link; reductions and gathers whose ranks lie in several nodes run at the bandwidth between nodes.
// Hidden: reductions behind the backward pass of the last micro-batch (two thirds of its training FLOPs, and what is
// recomputed), and one of the two ways of the rows, forward (each time) and backward, behind the shared experts.
// Gathering parameters and everything else waits.
StepTime plan_time(const Config& config, const RankLayout& layout, const RankResources& resources);

// All layouts; the best is the fastest among those that always fit, else among those that fit, else the one that needs
// the least memory. Of equally fast ones (to 0.1 %) the one that needs less memory.
Plan make_plan(const Config& config, int64_t ranks, const RankResources& resources);

}  // namespace switchyard
