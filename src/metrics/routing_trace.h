// Reading back what `switchyard trace` wrote: which experts each token went to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>

#include "metrics/expert_placement.h"

namespace switchyard {

struct RoutingTrace {
  int64_t num_experts = 0;
  int64_t tokens = 0;                    // of the layer with the most
  std::map<int64_t, ExpertSets> layers;  // by block of the model
};

// Reads JSON lines: first an object with "format": "switchyard-trace-1", "num_experts" and "layers" (the blocks that
// have experts), then one object a token and layer with at least "layer", "experts" (different ones, any number) and
// "weights" (as many). Throws DataError naming file, line and what would be right; a trace without a token is one.
RoutingTrace read_routing_trace(const std::filesystem::path& path);

}  // namespace switchyard
