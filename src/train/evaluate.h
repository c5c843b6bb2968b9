// Validation loss, per domain and over all.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/json.h"
#include "data/dataset.h"
#include "model/transformer.h"

namespace switchyard {

struct Evaluation {
  double val_loss = 0;                    // nats per token: the domains' mean, by data weight (zero weights left out)
  std::map<std::string, double> domains;  // nats per token
};

// What a batch of domain `domain` (its index) came out as.
using ForwardObserver = std::function<void(int64_t domain, const ModelOutput& output)>;

// Runs the model in evaluation mode (no dropout, jitter or noise) over eval.batches fixed validation batches per
// domain. `interrupted` is asked between batches; when it says yes the result is std::nullopt. `observe` sees every
// batch's forward pass.
std::optional<Evaluation> evaluate(Transformer& model, const Dataset& dataset, const Config& config,
                                   torch::Device device, const std::function<bool()>& interrupted = {},
                                   const ForwardObserver& observe = {});

// One warning where the routing of a token depends on later ones, so that losses come out too low.
void warn_if_not_causal(const Config& config);

// {"val_loss", "perplexity", "domains": {name: {"val_loss", "perplexity"}}}
OrderedJson evaluation_json(const Evaluation& evaluation);

}  // namespace switchyard
