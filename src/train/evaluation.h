// What an evaluation finds, and that of a checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace switchyard {

// How the tokens of one modality were spread over the experts of one MoE layer.
struct ModalityRouting {
  std::string modality;
  int64_t layer = 0;         // index of the block
  std::vector<double> load;  // [E] share of the modality's assignments, before drops; sums to 1
};

struct Evaluation {
  double val_loss = 0;                    // nats per token: the domains' mean, by data weight (zero weights left out)
  std::map<std::string, double> domains;  // nats per token
  std::map<std::string, int64_t> tokens;  // of each domain that were predicted
  // The same losses by what they tell of the text: nats of all targets / (ln 2 * bytes of their text). Compares models
  // with different tokenizers. NaN where no target has text.
  double bits_per_byte = 0;
  std::map<std::string, double> domain_bits_per_byte;
  std::vector<ModalityRouting> routing;  // by modality, then layer; empty where the data has one modality only
};

// {"val_loss", "perplexity", "bits_per_byte", "domains": {name: {the same three}}}
OrderedJson evaluation_json(const Evaluation& evaluation);
// {"layer", "modality", "load"}
OrderedJson modality_json(const ModalityRouting& routing);

struct CheckpointEvaluation {
  Evaluation evaluation;
  int64_t step = 0;  // of the checkpoint
};

// Evaluates `path` (as resolve_checkpoint takes it) on the data of its configuration, with a progress line. `overrides`
// must not change the architecture. Throws ConfigError, CheckpointError, DataError.
CheckpointEvaluation evaluate_checkpoint(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace switchyard
