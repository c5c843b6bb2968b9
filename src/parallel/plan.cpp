#include "parallel/plan.h"

#include <algorithm>

#include "base/errors.h"
#include "base/text.h"
#include "config/router_keys.h"
#include "model/accounting.h"
#include "model/accounting_block.h"

namespace switchyard {
namespace {

constexpr double kBytesOfInteger = 8;  // counts, and statistics in float64
constexpr double kSameTime = 1e-3;     // relative

int64_t micro_batches_of(const Config& config) {
  return *config.training.global_batch_size / config.training.micro_batch_size;
}

// What is summed over how many ranks.
struct Parameters {
  double shared_bytes = 0;  // over all
  double shared_ranks = 1;
  double expert_bytes = 0;  // of one rank's experts, over those that hold the same
  double expert_ranks = 1;
};

Parameters parameters_of(const Config& config, const RankLayout& layout) {
  const double weight = as_double(weight_bytes(config.training.precision));
  const double routed = as_double(count_expert_parameters(config));
  return {.shared_bytes = weight * (as_double(count_parameters(config).total) - routed),
          .shared_ranks = as_double(layout.ranks),
          .expert_bytes = weight * routed / as_double(layout.expert_parallel),
          .expert_ranks = as_double(layout.ranks / layout.expert_parallel)};
}

bool is_sharded(const RankLayout& layout) { return layout.distributed_optimizer && layout.ranks > 1; }

// Bytes of all rows (or counts) that leave the rank in one exchange within its expert-parallel group.
double leaving(double bytes, const RankLayout& layout) {
  return bytes * as_double(layout.expert_parallel - 1) / as_double(layout.expert_parallel);
}

// What all-reducing takes half of, and reduce-scattering or gathering all of.
double half_of_all_reduce(const Parameters& of) {
  return of.shared_bytes * (of.shared_ranks - 1) / of.shared_ranks +
         of.expert_bytes * (of.expert_ranks - 1) / of.expert_ranks;
}

// Whether a pass without gradients counts the load first (train/step.h).
bool has_counting_pass(const Config& config, const RankLayout& layout) {
  return needs_global_load(config) && micro_batches_of(config) > layout.ranks;
}

// How often a micro-batch's rows go to experts and back: forward, in a counting pass, and where blocks run again.
double forward_passes(const Config& config, const RankLayout& layout) {
  return 1 + (has_counting_pass(config, layout) ? 1 : 0) + (config.training.recompute == Recompute::kFull ? 1 : 0);
}

// Ways of the rows a step: those, and of the gradients.
double exchanges(const Config& config, const RankLayout& layout) { return 2 * forward_passes(config, layout) + 2; }

double dispatch_bytes(const Config& config, const RankLayout& layout) {
  if (!config.moe || layout.expert_parallel == 1) return 0;
  const double row = as_double(config.model.hidden_size * element_bytes(config.training.precision));
  const double counts = as_double(config.moe->num_experts) * kBytesOfInteger;
  double bytes = 0;
  for (int64_t layer = 0; layer < config.model.num_layers; ++layer) {
    if (!is_moe_layer(config, layer)) continue;
    bytes += exchanges(config, layout) * leaving(rows_to_experts(config, layer) * row, layout);
    bytes += forward_passes(config, layout) * leaving(counts, layout);
  }
  return bytes * as_double(micro_batches_of(config) / layout.ranks);
}

double statistics_bytes(const Config& config, const RankLayout& layout) {
  if (layout.ranks == 1) return 0;
  const double others = as_double(layout.ranks - 1);
  double bytes = 8 * kBytesOfInteger * others;  // loss, its parts, norm
  if (!config.moe) return bytes;
  const double experts = as_double(config.moe->num_experts);
  const double sums = (2 * experts + 2) + (needs_global_load(config) ? experts : 0);
  return bytes + 2 * as_double(num_moe_layers(config)) * sums * kBytesOfInteger * others / as_double(layout.ranks);
}

// How many times the rows that a rank sends to experts can arrive at one rank.
double worst_rows(const Config& config, const RankLayout& layout) {
  if (!config.moe || layout.expert_parallel == 1) return 1;
  const MoeConfig& moe = *config.moe;
  switch (moe.router.type) {
    case RouterType::kExpertChoice:
    case RouterType::kSoftMixture:
    case RouterType::kSoftMoe:
      return 1;  // every expert computes as much as another
    case RouterType::kTopK:
    case RouterType::kSwitch:
    case RouterType::kNoisyTopK:
    case RouterType::kHierarchical:
    case RouterType::kThreshold:
    case RouterType::kHash:
    case RouterType::kRandom:
    case RouterType::kSinkhorn:
    case RouterType::kQuantile:
      break;
  }
  int64_t most = active_experts(moe);
  if (moe.router.type == RouterType::kThreshold) most = *moe.router.max_experts;
  const int64_t here = std::min(most, moe.num_experts / layout.expert_parallel);
  const double dropless = as_double(layout.expert_parallel * here) / as_double(active_experts(moe));
  return moe.capacity_factor ? std::min(dropless, std::max(1.0, *moe.capacity_factor)) : std::max(1.0, dropless);
}

// The most ranks of other nodes that a rank's expert-parallel group has.
int64_t most_peers_elsewhere(const RankLayout& layout, int64_t ranks_per_node) {
  int64_t most = 0;
  for (int64_t rank = 0; rank < layout.ranks; ++rank) {
    const int64_t group = rank - rank % layout.expert_parallel;
    const int64_t node = rank - rank % ranks_per_node;
    const int64_t here = std::min(group + layout.expert_parallel, node + ranks_per_node) - std::max(group, node);
    most = std::max(most, layout.expert_parallel - here);
  }
  return most;
}

// FLOPs of one forward pass of a token through the shared experts of all layers.
double shared_expert_flops(const Config& config) {
  double flops = 0;
  for (const ComponentCost& cost : component_costs(config)) {
    if (cost.name.ends_with(" shared experts")) flops += cost.forward_flops;
  }
  return flops;
}

std::string describe(const RankLayout& layout) {
  return formatted("expert_parallel_size %ld, distributed_optimizer %s", layout.expert_parallel,
                   layout.distributed_optimizer ? "true" : "false");
}

// Chooses among layouts that `allowed` lets pass; false if there are none.
template <class Allowed, class Cost>
bool choose(Plan& plan, const Allowed& allowed, const Cost& cost) {
  bool found = false;
  for (size_t i = 0; i < plan.layouts.size(); ++i) {
    if (!allowed(plan.layouts[i])) continue;
    const PlannedLayout& best = plan.layouts[plan.best];
    const double now = cost(plan.layouts[i]);
    const bool faster = now < cost(best) * (1 - kSameTime);
    const bool smaller = now < cost(best) * (1 + kSameTime) && plan.layouts[i].memory.worst < best.memory.worst;
    if (!found || faster || smaller) plan.best = i;
    found = true;
  }
  return found;
}

void choose_best(Plan& plan) {
  const auto time = [](const PlannedLayout& planned) { return planned.time.total(); };
  if (choose(
          plan, [](const PlannedLayout& planned) { return planned.always_fits; }, time)) {
    plan.reason = "the fastest layout that fits however tokens are routed";
  } else if (choose(
                 plan, [](const PlannedLayout& planned) { return planned.fits; }, time)) {
    plan.reason = "the fastest layout that fits while experts are evenly used; none fits if one rank's get every token";
  } else {
    choose(
        plan, [](const PlannedLayout&) { return true; },
        [](const PlannedLayout& planned) { return planned.memory.peak; });
    plan.reason = "no layout fits; this one needs the least memory";
  }
  const PlannedLayout& best = plan.layouts[plan.best];
  const double share = best.time.total() > 0 ? (best.time.total() - best.time.compute) / best.time.total() : 0;
  plan.reason = describe(best.layout) + ": " + plan.reason +
                formatted("; ranks wait for communication %.0f %% of a step", 100 * share);
}

}  // namespace

std::vector<RankLayout> possible_layouts(const Config& config, int64_t ranks) {
  const int64_t micro_batches = micro_batches_of(config);
  if (micro_batches % ranks != 0) {
    throw ConfigError(formatted(
        "a step has %ld micro-batches (training.global_batch_size %ld / micro_batch_size %ld), which %ld ranks "
        "cannot share evenly; a multiple of %ld for training.global_batch_size would do",
        micro_batches, *config.training.global_batch_size, config.training.micro_batch_size, ranks,
        ranks * config.training.micro_batch_size));
  }
  std::vector<RankLayout> layouts;
  for (int64_t shares = 1; shares <= ranks; ++shares) {
    if (ranks % shares != 0 || (config.moe ? config.moe->num_experts % shares != 0 : shares > 1)) continue;
    layouts.push_back({ranks, shares, false});
    if (ranks > 1) layouts.push_back({ranks, shares, true});
  }
  return layouts;
}

RankMemory plan_memory(const Config& config, const RankLayout& layout) {
  const Parameters of = parameters_of(config, layout);
  const double shared = of.shared_ranks > 1 ? of.shared_bytes : 0;
  const double experts = of.expert_ranks > 1 ? of.expert_bytes : 0;
  const bool sharded = is_sharded(layout);
  const bool holds_sums = sharded && config.training.device != DeviceKind::kCuda;
  StepShare share{.expert_parallel_size = layout.expert_parallel,
                  .micro_batches = micro_batches_of(config) / layout.ranks,
                  .holds_shared_sums = holds_sums && shared > 0,
                  .holds_expert_sums = holds_sums && experts > 0};
  const MemoryEstimate even = estimate_memory(config, share);
  share.expert_rows = worst_rows(config, layout);
  const MemoryEstimate uneven = estimate_memory(config, share);
  RankMemory memory;
  memory.weights = even.weights;
  memory.gradients = even.gradients;
  memory.activations = even.activations;
  memory.optimizer = even.optimizer;
  memory.buckets = shared + experts;
  if (sharded) {
    memory.optimizer = 2 * (of.shared_bytes / of.shared_ranks + of.expert_bytes / of.expert_ranks);
    memory.buckets += shared / of.shared_ranks + experts / of.expert_ranks;
  }
  memory.sums = holds_sums ? shared + experts : 0;
  memory.peak = even.total - even.optimizer + memory.optimizer + memory.buckets;
  memory.worst = memory.peak + uneven.total - even.total;
  return memory;
}

RankTraffic plan_traffic(const Config& config, const RankLayout& layout) {
  const double half = half_of_all_reduce(parameters_of(config, layout));
  const bool sharded = is_sharded(layout);
  return {.dispatch = dispatch_bytes(config, layout),
          .gradients = sharded ? half : 2 * half,
          .parameters = sharded ? half : 0,
          .statistics = statistics_bytes(config, layout)};
}

StepTime plan_time(const Config& config, const RankLayout& layout, const RankResources& resources) {
  const double rate = resources.flops * resources.efficiency;
  const double micro_batches = as_double(micro_batches_of(config) / layout.ranks);
  const double micro_batch_tokens = as_double(config.training.micro_batch_size * config.training.seq_length);
  const bool one_node = layout.ranks <= resources.ranks_per_node;
  const double bandwidth = one_node ? resources.intra_bandwidth : resources.inter_bandwidth;
  const RankTraffic traffic = plan_traffic(config, layout);
  StepTime time;
  const double again = recomputed_flops_per_token(config);
  const double forward = training_flops_per_token(config) / 3;
  const double micro_batch = (3 * forward + again) * micro_batch_tokens / rate;
  time.compute = micro_batches * micro_batch;

  double dispatch = 0;
  if (layout.expert_parallel > 1) {
    const double to_each = traffic.dispatch / as_double(layout.expert_parallel - 1);
    const int64_t elsewhere = most_peers_elsewhere(layout, resources.ranks_per_node);
    const int64_t here = layout.expert_parallel - 1 - elsewhere;
    dispatch = std::max(as_double(here) * to_each / resources.intra_bandwidth,
                        elsewhere == 0 ? 0 : as_double(elsewhere) * to_each / resources.inter_bandwidth);
    const double ways = exchanges(config, layout) * micro_batches;
    const double beside = shared_expert_flops(config) * micro_batch_tokens / rate;  // of all layers
    const double runs = config.training.recompute == Recompute::kFull ? 2 : 1;
    time.hidden += micro_batches * (runs * std::min(dispatch / ways, beside) + std::min(dispatch / ways, 2 * beside));
  }
  const double reduce = traffic.gradients / bandwidth;
  time.hidden += std::min(reduce, micro_batch * (2 * forward + again) / (3 * forward + again));
  time.communication = dispatch + reduce + (traffic.parameters + traffic.statistics) / bandwidth;
  if (layout.ranks == 1) time.communication = time.hidden = 0;
  return time;
}

Plan make_plan(const Config& config, int64_t ranks, const RankResources& resources) {
  Plan plan;
  for (const RankLayout& layout : possible_layouts(config, ranks)) {
    PlannedLayout planned{.layout = layout,
                          .memory = plan_memory(config, layout),
                          .traffic = plan_traffic(config, layout),
                          .time = plan_time(config, layout, resources)};
    planned.fits = planned.memory.peak <= resources.memory;
    planned.always_fits = planned.memory.worst <= resources.memory;
    plan.layouts.push_back(std::move(planned));
  }
  choose_best(plan);
  return plan;
}

}  // namespace switchyard
