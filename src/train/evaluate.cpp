#include "train/evaluate.h"

#include <cmath>

#include "base/errors.h"
#include "base/logging.h"
#include "config/router_keys.h"
#include "train/setup.h"

namespace switchyard {
namespace {

// Mean loss of one domain's batches, weighted by their tokens; none when interrupted.
std::optional<double> domain_loss(Transformer& model, const std::vector<TokenBatch>& batches, torch::Device device,
                                  const std::function<bool()>& interrupted,
                                  const std::function<void(const ModelOutput&)>& observe) {
  double sum = 0;
  int64_t sequences = 0;
  for (const TokenBatch& batch : batches) {
    if (interrupted && interrupted()) return std::nullopt;
    const BatchTensors tensors = to_tensors(batch, device);
    const ModelOutput output = model->forward(tensors.inputs);
    observe(output);
    const auto loss = model->language_model_loss(output.hidden, tensors.targets);
    sum += loss.item<double>() * static_cast<double>(batch.num_sequences);
    sequences += batch.num_sequences;
  }
  return sum / static_cast<double>(std::max<int64_t>(1, sequences));
}

OrderedJson loss_and_perplexity(double loss) { return {{"val_loss", loss}, {"perplexity", std::exp(loss)}}; }

}  // namespace

std::optional<Evaluation> evaluate(Transformer& model, const Dataset& dataset, const Config& config,
                                   torch::Device device, const std::function<bool()>& interrupted,
                                   const ForwardObserver& observe) {
  const torch::NoGradGuard no_grad;
  model->eval();
  Evaluation evaluation;
  double weights = 0;
  for (size_t d = 0; d < dataset.domains.size(); ++d) {
    const Domain& domain = dataset.domains[d];
    const auto batches = validation_batches(dataset, static_cast<int64_t>(d), config.training.micro_batch_size,
                                            config.eval.batches, config.training.seq_length);
    const auto observe_domain = [&](const ModelOutput& output) {
      if (observe) observe(static_cast<int64_t>(d), output);
    };
    const std::optional<double> loss = domain_loss(model, batches, device, interrupted, observe_domain);
    if (!loss) return std::nullopt;
    evaluation.domains[domain.name] = *loss;
    evaluation.val_loss += domain.weight * *loss;
    weights += domain.weight;
  }
  evaluation.val_loss /= weights;
  return evaluation;
}

void warn_if_not_causal(const Config& config) {
  const std::string reason = why_not_causal(config);
  if (!reason.empty()) log_warning("losses are too low, because this model looks at later tokens: " + reason);
}

OrderedJson evaluation_json(const Evaluation& evaluation) {
  OrderedJson json = loss_and_perplexity(evaluation.val_loss);
  json["domains"] = OrderedJson::object();
  for (const auto& [name, loss] : evaluation.domains) json["domains"][name] = loss_and_perplexity(loss);
  return json;
}

}  // namespace switchyard
