// Which rank of an expert-parallel group holds which experts, from what tokens were routed to together.
// Legend: E experts, P ranks, U units (experts, or groups of them).
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "metrics/information.h"

namespace switchyard {

// What the tokens of one layer chose: each set of experts, ascending, with the number of tokens that chose it.
using ExpertSets = std::map<std::vector<int32_t>, int64_t>;

// order[place] is the expert that stands there; rank r holds the places [r E / P, (r + 1) E / P).
using ExpertOrdering = std::vector<int64_t>;

struct PlacementCost {
  double choices_per_token = 0;
  double ranks_per_token = 0;  // different ranks that hold a token's experts
  double imbalance = 1;        // choices that the busiest rank computes / the mean of all: 1 is balanced
};

// Means over the tokens of `sets`. The experts of `order` are split over `ranks`, which must divide their number.
PlacementCost placement_cost(const ExpertSets& sets, const ExpertOrdering& order, int64_t ranks);

// The rank of each unit, at most ceil(U / P) on one, from pairs [U][U]: tokens that chose both; diagonal: the unit's
// load. Each rank in turn starts with the busiest unit that is left and takes those chosen most often together with
// what it has; then pairs of units of different ranks are exchanged, the best first, as long as that brings more pairs
// together (Kernighan and Lin 1970, for P parts). Deterministic.
std::vector<size_t> co_locate(const CountTable& pairs, size_t ranks);

// An order in which tokens find their experts on few ranks, by co_locate(). The order as it was is kept where this is
// no better. Experts of one of `num_groups` groups of neighbours stay neighbours: groups move as a whole, and experts
// within their group. Deterministic. Throws ConfigError: `ranks` does not divide num_experts, or splits groups such
// that no rank holds whole groups or parts of one.
ExpertOrdering place_experts(const ExpertSets& sets, int64_t num_experts, int64_t ranks, int64_t num_groups = 1);

// 0, 1, ..., num_experts - 1.
ExpertOrdering experts_in_order(int64_t num_experts);

}  // namespace switchyard
