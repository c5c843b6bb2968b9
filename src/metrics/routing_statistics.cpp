#include "metrics/routing_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/errors.h"

namespace switchyard {
namespace {

void expect_size(const char* name, size_t found, size_t num_experts) {
  if (found == num_experts) return;
  throw Error("routing_statistics: " + std::string(name) + " has " + std::to_string(found) + " entries where " +
              std::to_string(num_experts) + " experts are counted");
}

std::vector<double> divided(std::span<const double> values, double by) {
  std::vector<double> result(values.size(), 0.0);
  if (by > 0) std::transform(values.begin(), values.end(), result.begin(), [by](double value) { return value / by; });
  return result;
}

// With one expert there is nothing to spread over, which is as balanced as it can be.
double share_of_log(double entropy, size_t num_experts) {
  return num_experts > 1 ? entropy / std::log(static_cast<double>(num_experts)) : 1.0;
}

double entropy_of(const std::vector<double>& shares) {
  double entropy = 0;
  for (const double share : shares) {
    if (share > 0) entropy -= share * std::log(share);
  }
  return entropy;
}

// The fields that describe how `load` (of sum 1) is spread.
void describe_load(RoutingStatistics& statistics) {
  const auto experts = static_cast<double>(statistics.load.size());
  double squares = 0;
  for (const double share : statistics.load) squares += (share * experts - 1) * (share * experts - 1);
  statistics.load_cv = std::sqrt(squares / experts);
  statistics.max_violation = *std::max_element(statistics.load.begin(), statistics.load.end()) * experts - 1;
  statistics.entropy = share_of_log(entropy_of(statistics.load), statistics.load.size());
}

}  // namespace

RoutingStatistics routing_statistics(std::span<const double> tokens_per_expert,
                                     std::span<const double> probability_sums, double token_entropy_sum,
                                     int64_t num_tokens, double dropped, std::span<const int64_t> steps_since_used,
                                     int64_t window) {
  const size_t num_experts = tokens_per_expert.size();
  expect_size("probability_sums", probability_sums.size(), num_experts);
  expect_size("steps_since_used", steps_since_used.size(), num_experts);
  const double assignments = std::accumulate(tokens_per_expert.begin(), tokens_per_expert.end(), 0.0);
  RoutingStatistics statistics;
  statistics.load = divided(tokens_per_expert, assignments);
  statistics.mean_probability = divided(probability_sums, static_cast<double>(num_tokens));
  if (assignments > 0) {
    describe_load(statistics);
    statistics.dropped_fraction = dropped / assignments;
  }
  if (num_tokens > 0) {
    statistics.experts_per_token = assignments / static_cast<double>(num_tokens);
    statistics.token_entropy = share_of_log(token_entropy_sum / static_cast<double>(num_tokens), num_experts);
  }
  for (size_t expert = 0; expert < num_experts; ++expert) {
    if (steps_since_used[expert] >= window) statistics.dead.push_back(static_cast<int64_t>(expert));
  }
  statistics.dead_experts = static_cast<int64_t>(statistics.dead.size());
  return statistics;
}

void add_measures(RoutingStatistics& statistics, const RouterMeasures& measures) {
  const size_t num_experts = statistics.load.size();
  expect_size("logit_squares", measures.logit_squares.size(), num_experts);
  expect_size("output_norm_sums", measures.output_norm_sums.size(), num_experts);
  expect_size("output_row_counts", measures.output_row_counts.size(), num_experts);
  const double tokens = std::max(1.0, measures.num_tokens);
  statistics.logit_norm = measures.logit_norm_sum / tokens;
  statistics.z = measures.z_sum / tokens;
  for (size_t expert = 0; expert < num_experts; ++expert) {
    statistics.logit_rms.push_back(std::sqrt(measures.logit_squares[expert] / tokens));
    const double rows = measures.output_row_counts[expert];
    statistics.expert_output_norm.push_back(rows > 0 ? measures.output_norm_sums[expert] / rows
                                                     : std::numeric_limits<double>::quiet_NaN());
  }
}

OrderedJson routing_event(int64_t step, int64_t layer, const RoutingStatistics& statistics) {
  OrderedJson event = {{"event", "routing"},
                       {"step", step},
                       {"layer", layer},
                       {"load", statistics.load},
                       {"mean_probability", statistics.mean_probability},
                       {"max_violation", statistics.max_violation},
                       {"load_cv", statistics.load_cv},
                       {"entropy", statistics.entropy},
                       {"token_entropy", statistics.token_entropy},
                       {"dead_experts", statistics.dead_experts},
                       {"dropped_fraction", statistics.dropped_fraction},
                       {"experts_per_token", statistics.experts_per_token}};
  if (statistics.logit_rms.empty()) return event;
  event["logit_norm"] = statistics.logit_norm;
  event["z"] = statistics.z;
  event["logit_rms"] = statistics.logit_rms;
  event["expert_output_norm"] = statistics.expert_output_norm;
  return event;
}

}  // namespace switchyard
