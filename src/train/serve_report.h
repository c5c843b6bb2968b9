// What the routing of a checkpoint's model means for serving it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace switchyard {

struct ServingOptions {
  std::vector<int64_t> batch_sizes = {1, 2, 4, 8, 16, 32, 64, 128, 256};
  int64_t prompt = 16;  // tokens of each text that are read first, not measured
  int64_t steps = 64;   // decoding steps that are measured
  int devices = 4;      // over which experts are placed
};

// study_serving() (train/serving.h) of a checkpoint, as resolve_checkpoint takes it, on its own data. Throws
// ConfigError, CheckpointError, DataError.
OrderedJson serve_report(const std::string& checkpoint, const std::vector<std::string>& overrides,
                         const ServingOptions& options);

}  // namespace switchyard
