// From the sums of one training step to the statistics of its layers.
#pragma once

#include <vector>

#include "metrics/routing_statistics.h"
#include "train/step.h"

namespace switchyard {

struct LayerRouting {
  int64_t layer = 0;
  std::vector<double> tokens_per_expert;  // [E] assignments before drops
  RoutingStatistics statistics;
};

// One per MoE layer. steps_since_used [L][E] and window as in routing_statistics(). Reads the device.
std::vector<LayerRouting> summarise_routing(const RoutingTotals& totals,
                                            const std::vector<std::vector<int64_t>>& steps_since_used, int64_t window);

}  // namespace switchyard
