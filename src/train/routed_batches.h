// A checkpoint's model run over text, to look at its routing.
// Legend: B sequences, S places, T = B * S tokens.
#pragma once

#include <functional>
#include <vector>

#include "base/progress.h"
#include "data/dataset.h"
#include "train/routes.h"
#include "train/run_state.h"

namespace switchyard {

struct RoutedBatch {
  int64_t domain = -1;  // index into Dataset::domains; -1: none
  int64_t num_sequences = 0;
  int64_t seq_length = 0;
  std::vector<int32_t> tokens;  // [T] sequence by sequence
  std::vector<Routes> routes;   // one per MoE layer, on the CPU, contiguous
};
using BatchUser = std::function<void(const RoutedBatch&)>;

// The data section of a checkpoint's configuration, in tokens of the checkpoint's tokenizer. Throws DataError.
Dataset open_dataset_of(const LoadedModel& loaded);
// Throws ConfigError where the model is dense.
void require_experts(const LoadedModel& loaded, const std::string& path);

// The model in evaluation mode over the validation windows that an evaluation sees (eval.batches per domain, 0: all).
// `progress` counts batches.
void route_validation(LoadedModel& loaded, const Dataset& dataset, const BatchUser& use,
                      WorkProgress* progress = nullptr);
// Over `tokens`, in windows of training.seq_length.
void route_tokens(LoadedModel& loaded, const std::vector<int32_t>& tokens, const BatchUser& use);

}  // namespace switchyard
