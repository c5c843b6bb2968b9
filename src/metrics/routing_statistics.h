// What the router of one layer did, from counts. Pure functions of numbers already on the host.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/json.h"

namespace switchyard {

struct RoutingStatistics {
  std::vector<double> load;              // [E] share of the T * K assignments, before drops; sums to 1
  std::vector<double> mean_probability;  // [E] mean router probability
  double max_violation = 0;              // max load / mean load - 1 (DeepSeek-V3)
  double load_cv = 0;                    // standard deviation of load / mean load
  double entropy = 0;                    // of `load`, divided by log E: 1 is uniform, 0 is one expert
  double token_entropy = 0;              // mean entropy of a token's router probabilities, divided by log E
  double dropped_fraction = 0;           // assignments dropped by capacity / all
  double experts_per_token = 0;          // assignments / tokens, before drops
  int64_t dead_experts = 0;              // without a token in the window
  std::vector<int64_t> dead;             // which ones

  // Only where they were measured, else NaN and empty: see RouterMeasures.
  double logit_norm = std::numeric_limits<double>::quiet_NaN();  // mean L2 norm of a token's router logits
  double z = std::numeric_limits<double>::quiet_NaN();           // mean (logsumexp of a token's logits)^2
  std::vector<double> logit_rms;                                 // [E] root mean square of an expert's logits
  std::vector<double> expert_output_norm;                        // [E] mean L2 norm of its outputs; NaN: no row
};

// tokens_per_expert [E]: assignments before drops. probability_sums [E]: router probability summed over tokens.
// token_entropy_sum: sum over tokens of the entropy (nats). num_tokens: T. dropped: assignments dropped.
// steps_since_used [E] (0: used in this step): an expert is dead from `window` steps on. All-zero counts give zeros,
// never NaN; with a single expert both entropies are 1. Throws Error where the sizes differ.
RoutingStatistics routing_statistics(std::span<const double> tokens_per_expert,
                                     std::span<const double> probability_sums, double token_entropy_sum,
                                     int64_t num_tokens, double dropped, std::span<const int64_t> steps_since_used,
                                     int64_t window);

// Sums over the tokens of one layer that are taken on logged steps only.
struct RouterMeasures {
  std::vector<double> logit_squares;      // [E]
  double logit_norm_sum = 0;              // of each token's L2 norm
  double z_sum = 0;                       // of each token's squared logsumexp
  double num_tokens = 0;                  // that the layer saw
  std::vector<double> output_norm_sums;   // [E] over the rows that an expert computed
  std::vector<double> output_row_counts;  // [E]
};
// Fills the means of these in `statistics`. No tokens give zeros. Throws Error where sizes are not those of `load`.
void add_measures(RoutingStatistics& statistics, const RouterMeasures& measures);

// The {"event":"routing", ...} line of metrics.jsonl.
OrderedJson routing_event(int64_t step, int64_t layer, const RoutingStatistics& statistics);

}  // namespace switchyard
