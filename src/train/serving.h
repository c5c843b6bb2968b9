// What the routing of a model means for serving it: many texts decoded together, one token each a step.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "metrics/placement.h"
#include "train/routed_batches.h"
#include "train/serve_report.h"

namespace switchyard {

// Bytes of weights that a decoding step reads.
struct WeightBytes {
  int64_t expert = 0;         // of one routed expert of one layer
  int64_t shared = 0;         // of everything that every step reads
  int64_t embedding_row = 0;  // of what each token reads besides
};
WeightBytes weight_bytes_of(const Transformer& model);

// Decodes validation texts in batches of every size, each with a key/value cache, from the texts' own tokens (what the
// model would have said does not matter to the routing of a step). Traffic: the texts of one domain, for each domain,
// and `mixed`, the domains taken in turn. Returns
//   traffic    [{traffic, batch_size, steps, experts_touched, experts_touched_by_chance, load_imbalance,
//              bytes_per_token, tokens_per_second, latency_median, latency_p99 (seconds a step)}]: means over steps and
//              MoE layers; a batch for which a domain has too few texts is left out
//   placement  [{traffic, placement, imbalance, devices_per_token}] over `devices` devices, means over layers, at the
//              largest batch; planned on the first half of the mixed steps and judged on the second half of each
// Throws ConfigError where the model can't decode, is dense, or no domain has texts for the smallest batch.
OrderedJson study_serving(LoadedModel& loaded, const Dataset& dataset, const std::string& path,
                          const ServingOptions& options);

}  // namespace switchyard
