// What it changes on which device experts stand, from the choices of tokens that were served together.
// Legend: E experts, N devices.
#pragma once

#include <cstdint>
#include <vector>

#include "metrics/information.h"

namespace switchyard {

// What tokens of one layer chose: token t chose choices[begin[t] .. begin[t + 1]).
struct TokenChoices {
  std::vector<int64_t> begin = {0};
  std::vector<int32_t> choices;
};

// The devices of each expert: more than one where it is replicated; its tokens then go to the lightest of them.
using Placement = std::vector<std::vector<int>>;  // [E]

// Assignments per expert [E], and tokens per pair of experts [E][E], over several steps.
std::vector<double> loads_of(const std::vector<TokenChoices>& steps, int64_t num_experts);
CountTable pairs_of(const std::vector<TokenChoices>& steps, int64_t num_experts);

// Neighbouring experts together: expert e on device e N / E.
Placement place_by_index(int64_t num_experts, int num_devices);
// Evenly by load: the heaviest expert first, each to the lightest device that has room for ceil(E / N) experts.
Placement place_by_load(const std::vector<double>& loads, int num_devices);
// Together what is chosen together, by co_locate() of metrics/expert_placement.h.
Placement place_by_pairs(const CountTable& pairs, int num_devices);
// The `copies` experts with the highest load on every device.
Placement replicate_hottest(Placement placement, const std::vector<double>& loads, int64_t copies, int num_devices);

struct PlacementEffect {
  double imbalance = 0;          // assignments of the busiest device / mean, mean over steps: 1 is balanced
  double devices_per_token = 0;  // devices that a token's experts lie on, at least, where replicas can be chosen
};
PlacementEffect placement_effect(const std::vector<TokenChoices>& steps, const Placement& placement, int num_devices);

// Experts with a token in the step, and the busiest expert's assignments / the mean over all E.
int64_t experts_touched(const TokenChoices& step, int64_t num_experts);
double load_imbalance(const TokenChoices& step, int64_t num_experts);
// Experts that a batch of tokens touches when each chooses `top_k` different ones by chance: E (1 - (1 - K / E)^batch).
double touched_by_chance(int64_t num_experts, double top_k, int64_t batch);

}  // namespace switchyard
