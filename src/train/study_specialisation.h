// Whether the experts of checkpoints specialise, by what they do with the validation data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace switchyard {

struct SpecialisationOptions {
  int64_t shufflings = 200;     // of the permutation baselines
  uint64_t seed = 1;            // of those
  int64_t sample_tokens = 240;  // of the coloured text of each domain
};

// The routes of `checkpoints` over the validation data of the first one, as {"checkpoints": [...]}, one entry each.
// Throws ConfigError where they can't be compared: dense, other layers or experts, or another tokenizer.
OrderedJson study_specialisation(const std::vector<std::string>& checkpoints, const std::vector<std::string>& overrides,
                                 const SpecialisationOptions& options);

}  // namespace switchyard
