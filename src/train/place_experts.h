// Experts in another order: the same function, with other neighbours on a rank.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "config/config.h"
#include "metrics/expert_placement.h"
#include "metrics/routing_trace.h"

namespace switchyard {

struct Checkpoint;

// The order of the experts of each block that has some.
using Placements = std::map<int64_t, ExpertOrdering>;

// Why experts of this configuration cannot be told apart by a trace, or not be moved; "" where they can.
std::string why_not_placed(const Config& config);

// place_experts() for every layer of the trace, over `ranks`. Throws ConfigError: why_not_placed(), ranks that do not
// divide the experts or their groups, a trace of another model.
Placements choose_placements(const RoutingTrace& trace, const Config& config, int64_t ranks);

struct PlacementChange {
  PlacementCost before;
  PlacementCost after;
  // Bytes that a token of training sends through all layers of the trace, forward and backward, where its choices of
  // one rank travel as one row, and where each choice is a row (as parallel/all_to_all_dispatcher.h sends them, which
  // no placement changes). The token is as likely on one rank as on another.
  double merged_before = 0;
  double merged_after = 0;
  double unmerged = 0;
};

// What placements[layer] do to one layer of the trace, and to all of them (costs: means over the layers).
PlacementChange change_of_layer(const RoutingTrace& trace, int64_t layer, const Placements& placements,
                                const Config& config, int64_t ranks);
PlacementChange change_of_all(const RoutingTrace& trace, const Placements& placements, const Config& config,
                              int64_t ranks);

// Moves expert placements[layer][i] to place i of its layer: the experts' weights, the rows of the router, its biases,
// running means and groups, the moments of all of them, and the idle times in trainer.json. The model computes what it
// did; only a tie between two experts of one token can go the other way. Throws CheckpointError: a router tensor that
// is not known, a tensor that has not as many rows as there are experts, a trainer.json of another shape.
void permute_experts(Checkpoint& checkpoint, const Config& config, const Placements& placements);

struct PlacedCheckpoint {
  int64_t trace_tokens = 0;
  std::map<int64_t, PlacementChange> layers;
  PlacementChange all;
};

// All of that from a checkpoint (as resolve_checkpoint takes it) and a file of its routing to the new checkpoint `out`.
PlacedCheckpoint place_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& trace,
                                  int64_t ranks, const std::filesystem::path& out);

}  // namespace switchyard
