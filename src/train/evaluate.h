// Validation loss, per domain and over all.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/json.h"
#include "data/dataset.h"
#include "model/transformer.h"
#include "parallel/world.h"

namespace switchyard {

struct Evaluation {
  double val_loss = 0;                    // nats per token: the domains' mean, by data weight (zero weights left out)
  std::map<std::string, double> domains;  // nats per token
};

// Runs the model in evaluation mode (no dropout, jitter or noise) over eval.batches fixed validation batches per
// domain, which the ranks share. After each round of batches `interrupted` gets the signal that any rank has received
// (StopSignals::number()); when it says yes the result is std::nullopt. Collectives: those of the model, and an
// all-gather a round.
std::optional<Evaluation> evaluate(Transformer& model, const Dataset& dataset, const Config& config,
                                   torch::Device device, World& world,
                                   const std::function<bool(int)>& interrupted = {});

// One warning where the routing of a token depends on later ones, so that losses come out too low.
void warn_if_not_causal(const Config& config);

// {"val_loss", "perplexity", "domains": {name: {"val_loss", "perplexity"}}}
OrderedJson evaluation_json(const Evaluation& evaluation);

}  // namespace switchyard
