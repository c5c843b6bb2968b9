#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/errors.h"
#include "base/logging.h"
#include "config/router_keys.h"
#include "losses/load_balancing.h"
#include "parallel/agree.h"
#include "train/setup.h"
#include "train/signals.h"

namespace switchyard {
namespace {

// What the ranks found in one round of batches, one each.
struct Round {
  double sum = 0;  // of the targets' losses
  double targets = 0;
  int signal = 0;
};

Round over_ranks(const Round& own, World& world) {
  if (world.size() == 1) return own;
  const torch::Tensor values = torch::tensor({own.sum, own.targets, double(own.signal)}, torch::kFloat64);
  const torch::Tensor all = gather_rows(world.control(), values);
  Round total;
  for (int64_t rank = 0; rank < world.size(); ++rank) {
    const double* row = all.const_data_ptr<double>() + 3 * rank;
    total.sum += row[0];
    total.targets += row[1];
    total.signal = std::max(total.signal, static_cast<int>(row[2]));
  }
  return total;
}

// Assignments of one modality's tokens.
struct ModalityCounts {
  std::vector<int64_t> layers;  // which block each row belongs to
  torch::Tensor per_expert;     // [layers, E] float64, before drops
};

// `counted`: whether these tokens are part of the sum; the rows are there in any case.
void add_counts(ModalityCounts& total, const std::vector<RouterOutput>& routers, bool counted) {
  if (routers.empty()) return;
  std::vector<torch::Tensor> counts;
  total.layers.clear();
  for (const RouterOutput& router : routers) {
    total.layers.push_back(router.layer);
    counts.push_back(tokens_per_expert(router).to(torch::kFloat64));
  }
  const torch::Tensor own = torch::stack(counts) * (counted ? 1.0 : 0.0);
  total.per_expert = total.per_expert.defined() ? total.per_expert + own : own;
}

// Mean loss of one domain's batches, weighted by their tokens; none when interrupted. The ranks take turns; in the last
// round those without a batch repeat the last one, which does not count, since experts may be needed by the others.
// `observe` sees every forward pass and whether it counts.
std::optional<double> domain_loss(Transformer& model, const std::vector<TokenBatch>& batches, torch::Device device,
                                  World& world, const std::function<bool(int)>& interrupted,
                                  const std::function<void(const ModelOutput&, bool)>& observe) {
  double sum = 0;
  double targets = 0;
  const auto ranks = static_cast<size_t>(world.size());
  for (size_t first = 0; first < batches.size(); first += ranks) {
    const size_t index = first + static_cast<size_t>(world.rank());
    const TokenBatch& batch = batches[std::min(index, batches.size() - 1)];
    const BatchTensors tensors = to_tensors(batch, device);
    const ModelOutput output = model->forward(tensors.inputs);
    const auto loss = model->language_model_loss(output, tensors.targets);
    observe(output, index < batches.size());
    Round own{.signal = StopSignals::number()};
    if (index < batches.size()) {
      own.targets = static_cast<double>(batch.num_targets());
      own.sum = loss.item<double>() * own.targets;
    }
    const Round round = over_ranks(own, world);
    if (interrupted && interrupted(round.signal)) return std::nullopt;
    sum += round.sum;
    targets += round.targets;
  }
  return sum / std::max(1.0, targets);
}

bool has_several_modalities(const Dataset& dataset) {
  const auto& domains = dataset.domains;
  return std::any_of(domains.begin(), domains.end(),
                     [&](const Domain& domain) { return domain.modality != domains[0].modality; });
}

void add_modality(const std::string& modality, const ModalityCounts& counts, World& world,
                  std::vector<ModalityRouting>& all) {
  if (counts.layers.empty()) return;
  world.all().all_reduce(counts.per_expert).wait();
  const torch::Tensor load = load_from_counts(counts.per_expert, torch::kFloat64).cpu().contiguous();
  const int64_t experts = load.size(1);
  const double* row = load.const_data_ptr<double>();
  for (const int64_t layer : counts.layers) {
    all.push_back({modality, layer, {row, row + experts}});
    row += experts;
  }
}

// Bytes of text that the targets of these windows stand for. Taken as what a window's text is longer by than that of
// its first token, since some tokenizers drop a space in front.
int64_t text_bytes(const Tokenizer& tokenizer, const std::vector<TokenBatch>& batches) {
  size_t bytes = 0;
  for (const TokenBatch& batch : batches) {
    for (int64_t sequence = 0; sequence < batch.num_sequences; ++sequence) {
      const bool last = sequence + 1 == batch.num_sequences;
      const int64_t skipped = last ? batch.repeated_targets : 0;
      const auto window = std::span(batch.tokens)
                              .subspan(static_cast<size_t>(sequence * (batch.seq_length + 1) + skipped),
                                       static_cast<size_t>(batch.seq_length + 1 - skipped));
      bytes += tokenizer.decode(window).size() - tokenizer.decode(window.first(1)).size();
    }
  }
  return static_cast<int64_t>(bytes);
}

OrderedJson figures_of(double loss, double bits_per_byte) {
  return {{"val_loss", loss}, {"perplexity", std::exp(loss)}, {"bits_per_byte", bits_per_byte}};
}

}  // namespace

std::optional<Evaluation> evaluate(Transformer& model, const Dataset& dataset, const Config& config,
                                   torch::Device device, World& world, const std::function<bool(int)>& interrupted,
                                   const ForwardObserver& observe) {
  const torch::NoGradGuard no_grad;
  model->eval();
  Evaluation evaluation;
  std::map<std::string, ModalityCounts> modalities;
  const bool by_modality = has_several_modalities(dataset);
  double weights = 0;
  for (size_t d = 0; d < dataset.domains.size(); ++d) {
    const Domain& domain = dataset.domains[d];
    const auto batches = validation_batches(dataset, static_cast<int64_t>(d), config.training.micro_batch_size,
                                            config.eval.batches, config.training.seq_length);
    const auto observe_all = [&](const ModelOutput& output, bool counted) {
      if (by_modality) add_counts(modalities[domain.modality], output.routers, counted);
      if (observe) observe(static_cast<int64_t>(d), output, counted);
    };
    const std::optional<double> loss = domain_loss(model, batches, device, world, interrupted, observe_all);
    if (!loss) return std::nullopt;
    evaluation.domains[domain.name] = *loss;
    int64_t& tokens = evaluation.tokens[domain.name];
    for (const TokenBatch& batch : batches) tokens += batch.num_targets();
    const auto bytes = static_cast<double>(text_bytes(*dataset.tokenizer, batches));
    const double bits = bytes > 0 ? *loss * static_cast<double>(tokens) / (std::numbers::ln2 * bytes)
                                  : std::numeric_limits<double>::quiet_NaN();
    evaluation.domain_bits_per_byte[domain.name] = bits;
    if (domain.weight == 0) continue;
    evaluation.val_loss += domain.weight * *loss;
    evaluation.bits_per_byte += domain.weight * bits;
    weights += domain.weight;
  }
  evaluation.val_loss /= weights;
  evaluation.bits_per_byte /= weights;
  for (const auto& [modality, counts] : modalities) add_modality(modality, counts, world, evaluation.routing);
  return evaluation;
}

void warn_if_not_causal(const Config& config) {
  const std::string reason = why_evaluation_looks_ahead(config);
  if (!reason.empty())
    log_warning("evaluation looks at later tokens, so its losses are no language model's: " + reason);
}

OrderedJson evaluation_json(const Evaluation& evaluation) {
  OrderedJson json = figures_of(evaluation.val_loss, evaluation.bits_per_byte);
  json["domains"] = OrderedJson::object();
  for (const auto& [name, loss] : evaluation.domains) {
    json["domains"][name] = figures_of(loss, evaluation.domain_bits_per_byte.at(name));
  }
  return json;
}

OrderedJson modality_json(const ModalityRouting& routing) {
  return {{"layer", routing.layer}, {"modality", routing.modality}, {"load", routing.load}};
}

}  // namespace switchyard
