// Validation loss, per domain and over all.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/dataset.h"
#include "model/transformer.h"
#include "parallel/world.h"

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
  std::vector<ModalityRouting> routing;   // by modality, then layer; empty where the data has one modality only
};

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

// {"val_loss", "perplexity", "domains": {name: {"val_loss", "perplexity"}}}
OrderedJson evaluation_json(const Evaluation& evaluation);
// {"layer", "modality", "load"}
OrderedJson modality_json(const ModalityRouting& routing);

}  // namespace switchyard
