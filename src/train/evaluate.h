// Validation loss, per domain and over all.
#pragma once

#include <functional>
#include <optional>

#include "data/dataset.h"
#include "model/transformer.h"
#include "parallel/world.h"
#include "train/evaluation.h"

namespace switchyard {

// What a batch of domain `domain` (its index) came out as; not `counted` where another rank counts the same batch.
using ForwardObserver = std::function<void(int64_t domain, const ModelOutput& output, bool counted)>;

// Runs the model in evaluation mode (no dropout, jitter or noise) over eval.batches fixed validation batches per
// domain, which the ranks share. After each round of batches `interrupted` gets the signal that any rank has received
// (StopSignals::number()); when it says yes the result is std::nullopt. `observe` sees the forward passes of this rank.
// Collectives: those of the model, an all-gather a round, and an all-reduce for each modality where there are several.
std::optional<Evaluation> evaluate(Transformer& model, const Dataset& dataset, const Config& config,
                                   torch::Device device, World& world, const std::function<bool(int)>& interrupted = {},
                                   const ForwardObserver& observe = {});

// One warning where the routing of a token depends on later ones, so that losses come out too low.
void warn_if_not_causal(const Config& config);

}  // namespace switchyard
