#include "train/evaluate.h"

#include <algorithm>
#include <cmath>

#include "base/errors.h"
#include "base/logging.h"
#include "config/router_keys.h"
#include "losses/load_balancing.h"
#include "train/setup.h"
#include "train/step.h"

namespace switchyard {
namespace {

// Mean loss of one domain's batches, weighted by their tokens; none when interrupted. Adds their routing to `routing`
// unless that is null.
std::optional<double> domain_loss(Transformer& model, const std::vector<TokenBatch>& batches, torch::Device device,
                                  const std::function<bool()>& interrupted, RoutingTotals* routing) {
  double sum = 0;
  int64_t sequences = 0;
  for (const TokenBatch& batch : batches) {
    if (interrupted && interrupted()) return std::nullopt;
    const BatchTensors tensors = to_tensors(batch, device);
    const ModelOutput output = model->forward(tensors.inputs);
    const auto loss = model->language_model_loss(output, tensors.targets);
    if (routing != nullptr) accumulate_routing(*routing, output.routers);
    sum += loss.item<double>() * static_cast<double>(batch.num_sequences);
    sequences += batch.num_sequences;
  }
  return sum / static_cast<double>(std::max<int64_t>(1, sequences));
}

bool has_several_modalities(const Dataset& dataset) {
  const auto& domains = dataset.domains;
  return std::any_of(domains.begin(), domains.end(),
                     [&](const Domain& domain) { return domain.modality != domains[0].modality; });
}

void add_modality(const std::string& modality, const RoutingTotals& totals, std::vector<ModalityRouting>& all) {
  if (totals.layers.empty()) return;
  const torch::Tensor load = load_from_counts(totals.tokens_per_expert, torch::kFloat64).cpu().contiguous();
  const int64_t experts = load.size(1);
  const double* row = load.const_data_ptr<double>();
  for (const int64_t layer : totals.layers) {
    all.push_back({modality, layer, {row, row + experts}});
    row += experts;
  }
}

OrderedJson loss_and_perplexity(double loss) { return {{"val_loss", loss}, {"perplexity", std::exp(loss)}}; }

}  // namespace

std::optional<Evaluation> evaluate(Transformer& model, const Dataset& dataset, const Config& config,
                                   torch::Device device, const std::function<bool()>& interrupted) {
  const torch::NoGradGuard no_grad;
  model->eval();
  Evaluation evaluation;
  std::map<std::string, RoutingTotals> modalities;
  const bool by_modality = has_several_modalities(dataset);
  double weights = 0;
  for (size_t d = 0; d < dataset.domains.size(); ++d) {
    const Domain& domain = dataset.domains[d];
    const auto batches = validation_batches(dataset, static_cast<int64_t>(d), config.training.micro_batch_size,
                                            config.eval.batches, config.training.seq_length);
    RoutingTotals* routing = by_modality ? &modalities[domain.modality] : nullptr;
    const std::optional<double> loss = domain_loss(model, batches, device, interrupted, routing);
    if (!loss) return std::nullopt;
    evaluation.domains[domain.name] = *loss;
    evaluation.val_loss += domain.weight * *loss;
    weights += domain.weight;
  }
  evaluation.val_loss /= weights;
  for (const auto& [modality, totals] : modalities) add_modality(modality, totals, evaluation.routing);
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

OrderedJson modality_json(const ModalityRouting& routing) {
  return {{"layer", routing.layer}, {"modality", routing.modality}, {"load", routing.load}};
}

}  // namespace switchyard
