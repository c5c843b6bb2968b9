#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "base/system.h"
#include "base/text.h"
#include "cli/any_config.h"
#include "cli/commands.h"
#include "cli/numbers.h"
#include "data/dataset.h"
#include "parallel/loopback.h"
#include "parallel/plan.h"
#include "train/bench.h"
#include "train/place_experts.h"

namespace switchyard {
namespace {

struct PlanOptions {
  std::string path;
  std::vector<std::string> overrides;
  int64_t ranks = 0;
  int64_t ranks_per_node = 0;  // 0: all
  // 0: this machine's.
  double memory = 0;
  double flops = 0;
  double intra_bandwidth = 0;
  double inter_bandwidth = 0;
  double efficiency = 1;
  std::string trace;
  bool json = false;
};

// What is assumed of a rank, and where it comes from.
struct Assumed {
  RankResources resources;
  OrderedJson origin;
};

// Whatever is not given is this machine's, measured now and shared by the ranks of a node.
Assumed assumed_resources(const PlanOptions& options, const Config& config) {
  Assumed assumed;
  RankResources& rank = assumed.resources;
  rank.ranks_per_node = options.ranks_per_node > 0 ? std::min(options.ranks_per_node, options.ranks) : options.ranks;
  rank.efficiency = options.efficiency;
  const auto sharers = static_cast<double>(rank.ranks_per_node);
  const auto cores = static_cast<double>(allowed_cores());
  const auto take = [&](const char* name, double given, const char* otherwise, const auto& measure) {
    assumed.origin[name] = given > 0 ? "given" : otherwise;
    return given > 0 ? given : measure();
  };
  rank.memory = take("memory", options.memory, "this machine's, shared by the ranks of a node", [&] {
    return static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / sharers;
  });
  rank.flops = take("flops", options.flops, "measured here, shared by the ranks of a node",
                    [&] { return measure_gemm_rate(config) / sharers; });
  // A connection keeps two cores busy.
  rank.intra_bandwidth = take("intra_bandwidth", options.intra_bandwidth, "loopback measured here, shared likewise",
                              [&] { return measure_loopback_bandwidth() * std::min(1.0, cores / (2 * sharers)); });
  rank.inter_bandwidth =
      take("inter_bandwidth", options.inter_bandwidth, "as within a node", [&] { return rank.intra_bandwidth; });
  return assumed;
}

OrderedJson json_of(const PlannedLayout& planned) {
  const auto& [layout, memory, traffic, time, fits, always_fits] = planned;
  return {{"expert_parallel_size", layout.expert_parallel},
          {"expert_copies", layout.ranks / layout.expert_parallel},
          {"distributed_optimizer", layout.distributed_optimizer},
          {"memory_bytes",
           {{"weights", memory.weights},
            {"gradients", memory.gradients},
            {"buckets", memory.buckets},
            {"optimizer", memory.optimizer},
            {"activations", memory.activations},
            {"sums", memory.sums},
            {"peak", memory.peak},
            {"imbalance", memory.worst - memory.peak},
            {"worst", memory.worst}}},
          {"sent_bytes_per_step",
           {{"all_to_all", traffic.dispatch},
            {"gradients", traffic.gradients},
            {"parameters", traffic.parameters},
            {"statistics", traffic.statistics},
            {"total", traffic.total()}}},
          {"seconds_per_step",
           {{"compute", time.compute},
            {"communication", time.communication},
            {"hidden", time.hidden},
            {"total", time.total()}}},
          {"fits", fits},
          {"fits_in_the_worst_case", always_fits}};
}

// The placements of a trace for every size of the expert-parallel group.
OrderedJson placements_json(const PlanOptions& options, const Config& config, const Plan& plan) {
  const RoutingTrace trace = read_routing_trace(options.trace);
  OrderedJson all = OrderedJson::array();
  for (const PlannedLayout& planned : plan.layouts) {
    const int64_t ranks = planned.layout.expert_parallel;
    if (ranks == 1 || (!all.empty() && all.back()["expert_parallel_size"] == ranks)) continue;
    const Placements placements = choose_placements(trace, config, ranks);
    const PlacementChange change = change_of_all(trace, placements, config, ranks);
    all.push_back({{"expert_parallel_size", ranks},
                   {"choices_per_token", change.before.choices_per_token},
                   {"ranks_per_token", {change.before.ranks_per_token, change.after.ranks_per_token}},
                   {"busiest_rank_over_mean", {change.before.imbalance, change.after.imbalance}},
                   {"bytes_per_token_one_row_a_rank", {change.merged_before, change.merged_after}},
                   {"bytes_per_token_one_row_a_choice", change.unmerged}});
  }
  return all;
}

std::string rate_text(double value, const char* unit) { return with_si_suffix(value) + unit; }

void print_assumed(const PlanOptions& options, const Config& config, const Assumed& assumed) {
  const RankResources& rank = assumed.resources;
  const int64_t tokens = *config.training.global_batch_size * config.training.seq_length;
  std::printf(
      "%s tokens a step, %s micro-batches of %s for each of %ld ranks, %ld a node; %s\n",
      with_thousands(tokens).c_str(),
      with_thousands(*config.training.global_batch_size / config.training.micro_batch_size / options.ranks).c_str(),
      with_thousands(config.training.micro_batch_size * config.training.seq_length).c_str(), options.ranks,
      rank.ranks_per_node, precision_name(config.training.precision));
  const auto from = [&](const char* name) { return assumed.origin.at(name).get<std::string>(); };
  std::printf("a rank has\n  %-12s memory (%s)\n", as_bytes_text(rank.memory).c_str(), from("memory").c_str());
  std::printf("  %-12s of matrix products (%s), of which a step attains %.2f%s\n",
              rate_text(rank.flops, "FLOP/s").c_str(), from("flops").c_str(), rank.efficiency,
              rank.efficiency == 1 ? ": a lower bound of its time (bench measures gemm_flops_share)" : "");
  std::printf("  %-12s to ranks of its node (%s)\n", rate_text(rank.intra_bandwidth, "B/s").c_str(),
              from("intra_bandwidth").c_str());
  std::printf("  %-12s to others (%s)\n\n", rate_text(rank.inter_bandwidth, "B/s").c_str(),
              from("inter_bandwidth").c_str());
}

void print_layouts(const Plan& plan) {
  std::printf("memory of a rank\n  %4s %6s %7s %10s %10s %10s %10s %12s %10s %10s  %s\n", "ep", "copies", "sharded",
              "weights", "gradients", "buckets", "optimizer", "activations", "peak", "worst", "fits");
  for (const PlannedLayout& planned : plan.layouts) {
    const RankMemory& memory = planned.memory;
    std::printf("  %4ld %6ld %7s %10s %10s %10s %10s %12s %10s %10s  %s\n", planned.layout.expert_parallel,
                planned.layout.ranks / planned.layout.expert_parallel,
                planned.layout.distributed_optimizer ? "yes" : "no", as_bytes_text(memory.weights).c_str(),
                as_bytes_text(memory.gradients).c_str(), as_bytes_text(memory.buckets).c_str(),
                as_bytes_text(memory.optimizer).c_str(), as_bytes_text(memory.activations).c_str(),
                as_bytes_text(memory.peak).c_str(), as_bytes_text(memory.worst).c_str(),
                planned.always_fits ? "yes" : (planned.fits ? "if even" : "no"));
  }
  std::printf("\nbytes that a rank sends and milliseconds, a step\n  %4s %6s %7s %10s %10s %10s %10s %10s %10s %10s\n",
              "ep", "copies", "sharded", "all-to-all", "gradients", "parameters", "compute", "comm.", "hidden", "step");
  for (const PlannedLayout& planned : plan.layouts) {
    const StepTime& time = planned.time;
    std::printf("  %4ld %6ld %7s %10s %10s %10s %10.2f %10.2f %10.2f %10.2f%s\n", planned.layout.expert_parallel,
                planned.layout.ranks / planned.layout.expert_parallel,
                planned.layout.distributed_optimizer ? "yes" : "no", as_bytes_text(planned.traffic.dispatch).c_str(),
                as_bytes_text(planned.traffic.gradients).c_str(), as_bytes_text(planned.traffic.parameters).c_str(),
                1e3 * time.compute, 1e3 * time.communication, 1e3 * time.hidden, 1e3 * time.total(),
                &planned == &plan.layouts[plan.best] ? "  <- best" : "");
  }
  std::printf("\nbest: %s\n", plan.reason.c_str());
}

constexpr const char* kAssumptions =
    "experts are used evenly (worst: every token of the group chooses experts of one rank, in every layer); bytes take "
    "bytes / bandwidth, no latency; sums of gradients travel behind the backward pass of the last micro-batch, one of "
    "two ways of the rows behind the shared experts, and ranks wait for the rest; the update takes no time";

void print_placements(const OrderedJson& placements) {
  std::printf("\nexperts placed by the trace (switchyard place writes such a checkpoint)\n");
  for (const OrderedJson& line : placements) {
    const auto pair = [&](const char* key, size_t i) { return line.at(key)[i].get<double>(); };
    std::printf(
        "  ep %-3ld a token's %.2f choices are on %.2f ranks, then on %.2f; busiest rank / mean %.2f, then %.2f; bytes "
        "a "
        "token, a row for each of its ranks: %s, then %s; a row for each choice, as train sends them: %s\n",
        line["expert_parallel_size"].get<int64_t>(), line["choices_per_token"].get<double>(),
        pair("ranks_per_token", 0), pair("ranks_per_token", 1), pair("busiest_rank_over_mean", 0),
        pair("busiest_rank_over_mean", 1), as_bytes_text(pair("bytes_per_token_one_row_a_rank", 0)).c_str(),
        as_bytes_text(pair("bytes_per_token_one_row_a_rank", 1)).c_str(),
        as_bytes_text(line["bytes_per_token_one_row_a_choice"].get<double>()).c_str());
  }
}

int run_plan(const PlanOptions& options) {
  Config config = config_of(options.path, options.overrides);
  const bool vocabulary_assumed = assume_vocabulary(config);
  possible_layouts(config, options.ranks);  // what is wrong with them is said before anything is measured
  const Assumed assumed = assumed_resources(options, config);
  const Plan plan = make_plan(config, options.ranks, assumed.resources);
  OrderedJson placements;
  if (!options.trace.empty()) placements = placements_json(options, config, plan);
  if (options.json) {
    OrderedJson json = {{"ranks", options.ranks},
                        {"ranks_per_node", assumed.resources.ranks_per_node},
                        {"memory_bytes", assumed.resources.memory},
                        {"flops", assumed.resources.flops},
                        {"efficiency", assumed.resources.efficiency},
                        {"intra_bandwidth", assumed.resources.intra_bandwidth},
                        {"inter_bandwidth", assumed.resources.inter_bandwidth},
                        {"origin", assumed.origin},
                        {"vocab_size", *config.model.vocab_size},
                        {"vocab_size_assumed", vocabulary_assumed},
                        {"assumptions", kAssumptions},
                        {"layouts", OrderedJson::array()},
                        {"best", plan.best},
                        {"reason", plan.reason}};
    for (const PlannedLayout& planned : plan.layouts) json["layouts"].push_back(json_of(planned));
    if (!placements.is_null()) json["placements"] = placements;
    std::printf("%s\n", json.dump(2).c_str());
    return kExitDone;
  }
  print_assumed(options, config, assumed);
  print_layouts(plan);
  std::printf("assumed: %s\n", kAssumptions);
  if (vocabulary_assumed) std::printf("a vocabulary of %ld is assumed, too\n", *config.model.vocab_size);
  if (!placements.is_null()) print_placements(placements);
  return kExitDone;
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto options = std::make_shared<PlanOptions>();
  app.add_option("PATH", options->path, "A config file, a checkpoint folder, or a run folder")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value; training.device=cuda plans for GPUs, one a rank");
  app.add_option("--ranks", options->ranks, "Ranks of the run")->required()->check(CLI::Range(1, 1 << 20));
  app.add_option("--gpus-per-node", options->ranks_per_node, "Ranks of one node (on the CPU, too); default: all")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--hbm", options->memory, "Bytes of memory of a rank; default: this machine's / the ranks of a node")
      ->check(number_between(1, 1e30));
  app.add_option("--flops", options->flops,
                 "FLOP/s of a rank's matrix products; default: this machine's, measured now as bench does, / the ranks "
                 "of a node")
      ->check(number_between(1, 1e30));
  app.add_option(
         "--efficiency", options->efficiency,
         "Share of --flops that a training step attains (bench: gemm_flops_share with training.recompute none); "
         "1 is a lower bound of the time")
      ->check(number_between(1e-6, 1))
      ->capture_default_str();
  app.add_option("--intra-bandwidth", options->intra_bandwidth,
                 "Bytes/s that a rank can send to ranks of its node; default: over this machine's loopback interface, "
                 "measured now, its cores shared by the ranks of a node")
      ->check(number_between(1, 1e30));
  app.add_option("--inter-bandwidth", options->inter_bandwidth,
                 "Bytes/s that a rank can send to ranks of other nodes; default: as within a node")
      ->check(number_between(1, 1e30));
  app.add_option("--trace", options->trace,
                 "Routing of this model (JSON lines of switchyard trace): what placing experts by it would change");
  app.add_flag("--json", options->json, "Print JSON");
  return [options] { return run_plan(*options); };
}

}  // namespace switchyard
