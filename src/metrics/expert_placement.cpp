#include "metrics/expert_placement.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/errors.h"
#include "base/text.h"

namespace switchyard {
namespace {

// The table that co_locate() takes. unit_of[expert]: which unit an expert is part of, or -1: of none of these.
CountTable count_pairs(const ExpertSets& sets, const std::vector<int64_t>& unit_of, size_t count) {
  CountTable pairs(count, std::vector<double>(count, 0.0));
  std::vector<size_t> chosen;
  for (const auto& [experts, count_of_set] : sets) {
    const auto tokens = static_cast<double>(count_of_set);
    chosen.clear();
    for (const int32_t expert : experts) {
      const int64_t unit = unit_of[static_cast<size_t>(expert)];
      if (unit >= 0) chosen.push_back(static_cast<size_t>(unit));
    }
    for (const size_t a : chosen) {
      pairs[a][a] += tokens;
      for (const size_t b : chosen) {
        if (a != b) pairs[a][b] += tokens;
      }
    }
  }
  return pairs;
}

std::vector<size_t> fill_ranks(const CountTable& pairs, size_t ranks) {
  const size_t units = pairs.size();
  const size_t room = (units + ranks - 1) / ranks;
  std::vector<size_t> rank_of(units, ranks);
  std::vector<double> ties(units);
  for (size_t placed = 0; placed < units; ++placed) {
    // The first of a rank is the busiest; the others are tied to those before.
    const bool first = placed % room == 0;
    if (first) std::fill(ties.begin(), ties.end(), 0.0);
    const auto merit = [&](size_t unit) { return first ? pairs[unit][unit] : ties[unit]; };
    size_t best = units;
    for (size_t unit = 0; unit < units; ++unit) {
      if (rank_of[unit] == ranks && (best == units || merit(unit) > merit(best))) best = unit;
    }
    rank_of[best] = placed / room;
    for (size_t unit = 0; unit < units; ++unit) ties[unit] += pairs[best][unit];
  }
  return rank_of;
}

// Exchanges units between ranks until no exchange of two brings more pairs onto one rank.
void improve_by_exchanges(const CountTable& pairs, size_t ranks, std::vector<size_t>& rank_of) {
  const size_t units = pairs.size();
  const auto tie = [&](size_t a, size_t b) { return a == b ? 0.0 : pairs[a][b]; };
  CountTable with_rank(units, std::vector<double>(ranks, 0.0));  // ties of a unit to those of a rank
  for (size_t a = 0; a < units; ++a) {
    for (size_t b = 0; b < units; ++b) with_rank[a][rank_of[b]] += tie(a, b);
  }
  const auto gain = [&](size_t a, size_t b) {
    return with_rank[a][rank_of[b]] + with_rank[b][rank_of[a]] - with_rank[a][rank_of[a]] - with_rank[b][rank_of[b]] -
           2 * tie(a, b);
  };
  for (;;) {
    double most = 0;
    size_t first = 0;
    size_t second = 0;
    for (size_t a = 0; a < units; ++a) {
      for (size_t b = a + 1; b < units; ++b) {
        if (rank_of[a] == rank_of[b] || gain(a, b) <= most) continue;
        most = gain(a, b);
        first = a;
        second = b;
      }
    }
    if (most == 0) return;
    for (size_t unit = 0; unit < units; ++unit) {
      const double change = tie(unit, second) - tie(unit, first);
      with_rank[unit][rank_of[first]] += change;
      with_rank[unit][rank_of[second]] -= change;
    }
    std::swap(rank_of[first], rank_of[second]);
  }
}

// Units rank by rank, ascending within a rank; the rank with the lowest unit comes first.
std::vector<size_t> units_in_order(const CountTable& pairs, size_t ranks) {
  const std::vector<size_t> rank_of = co_locate(pairs, ranks);
  std::vector<std::vector<size_t>> members(ranks);
  for (size_t unit = 0; unit < rank_of.size(); ++unit) members[rank_of[unit]].push_back(unit);
  std::sort(members.begin(), members.end());
  std::vector<size_t> order;
  for (const auto& of_rank : members) order.insert(order.end(), of_rank.begin(), of_rank.end());
  return order;
}

// Whole groups as units: several on each rank.
ExpertOrdering place_groups(const ExpertSets& sets, int64_t num_experts, int64_t ranks, int64_t num_groups) {
  const int64_t size = num_experts / num_groups;
  std::vector<int64_t> unit_of;
  for (int64_t expert = 0; expert < num_experts; ++expert) unit_of.push_back(expert / size);
  const CountTable pairs = count_pairs(sets, unit_of, static_cast<size_t>(num_groups));
  ExpertOrdering order;
  for (const size_t group : units_in_order(pairs, static_cast<size_t>(ranks))) {
    for (int64_t i = 0; i < size; ++i) order.push_back(static_cast<int64_t>(group) * size + i);
  }
  return order;
}

// The experts of each group over the ranks that share it.
ExpertOrdering place_within_groups(const ExpertSets& sets, int64_t num_experts, int64_t ranks, int64_t num_groups) {
  const int64_t size = num_experts / num_groups;
  ExpertOrdering order;
  for (int64_t first = 0; first < num_experts; first += size) {
    std::vector<int64_t> unit_of(static_cast<size_t>(num_experts), -1);
    for (int64_t i = 0; i < size; ++i) unit_of[static_cast<size_t>(first + i)] = i;
    const CountTable pairs = count_pairs(sets, unit_of, static_cast<size_t>(size));
    for (const size_t unit : units_in_order(pairs, static_cast<size_t>(ranks / num_groups))) {
      order.push_back(first + static_cast<int64_t>(unit));
    }
  }
  return order;
}

}  // namespace

std::vector<size_t> co_locate(const CountTable& pairs, size_t ranks) {
  std::vector<size_t> rank_of = fill_ranks(pairs, ranks);
  improve_by_exchanges(pairs, ranks, rank_of);
  return rank_of;
}

ExpertOrdering experts_in_order(int64_t num_experts) {
  ExpertOrdering order(static_cast<size_t>(num_experts));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

PlacementCost placement_cost(const ExpertSets& sets, const ExpertOrdering& order, int64_t ranks) {
  const size_t room = order.size() / static_cast<size_t>(ranks);
  std::vector<size_t> rank_of(order.size());
  for (size_t place = 0; place < order.size(); ++place) rank_of[static_cast<size_t>(order[place])] = place / room;
  std::vector<double> loads(static_cast<size_t>(ranks), 0.0);
  double all = 0;
  double choices = 0;
  double visits = 0;
  std::set<size_t> visited;
  for (const auto& [experts, count] : sets) {
    const auto tokens = static_cast<double>(count);
    visited.clear();
    for (const int32_t expert : experts) {
      const size_t rank = rank_of[static_cast<size_t>(expert)];
      visited.insert(rank);
      loads[rank] += tokens;
    }
    all += tokens;
    choices += tokens * static_cast<double>(experts.size());
    visits += tokens * static_cast<double>(visited.size());
  }
  if (choices == 0) return {};
  return {.choices_per_token = choices / all,
          .ranks_per_token = visits / all,
          .imbalance = *std::max_element(loads.begin(), loads.end()) * static_cast<double>(ranks) / choices};
}

ExpertOrdering place_experts(const ExpertSets& sets, int64_t num_experts, int64_t ranks, int64_t num_groups) {
  if (num_experts % ranks != 0) {
    throw ConfigError(formatted("%ld ranks do not divide %ld experts", ranks, num_experts));
  }
  if (num_groups % ranks != 0 && ranks % num_groups != 0) {
    throw ConfigError(
        formatted("experts of one group must stay neighbours, but %ld ranks split %ld groups unevenly: one number must "
                  "divide the other",
                  ranks, num_groups));
  }
  const ExpertOrdering before = experts_in_order(num_experts);
  const bool whole_groups = num_groups > 1 && num_groups % ranks == 0;
  const ExpertOrdering order = whole_groups ? place_groups(sets, num_experts, ranks, num_groups)
                                            : place_within_groups(sets, num_experts, ranks, num_groups);
  const double now = placement_cost(sets, order, ranks).ranks_per_token;
  return now < placement_cost(sets, before, ranks).ranks_per_token ? order : before;
}

}  // namespace switchyard
