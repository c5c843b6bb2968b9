#include "train/step.h"

#include <cmath>

#include "losses/auxiliary.h"
#include "losses/depth.h"
#include "losses/load_balancing.h"

namespace switchyard {

using torch::Tensor;

bool StepLosses::finite() const { return std::isfinite(total) && std::isfinite(grad_norm); }

double StepLosses::auxiliary_loss(std::string_view name) const {
  for (const auto& [key, value] : auxiliary) {
    if (key == name) return value;
  }
  return 0;
}

bool is_logged_step(const Config& config, int64_t step) {
  return step == 1 || step == config.training.max_steps || step % config.training.log_interval == 0;
}

namespace {

void add_parts(Tensor& total, const std::vector<Tensor>& parts) {
  total = total.defined() ? total + torch::stack(parts) : torch::stack(parts);
}

void accumulate_measures(RoutingTotals& totals, const std::vector<RouterOutput>& routers) {
  std::vector<Tensor> squares;
  std::vector<Tensor> sums;
  std::vector<Tensor> outputs;
  for (const RouterOutput& router : routers) {
    if (!router.output_norms.defined()) return;
    const Tensor logits = router.logits.detach();
    const Tensor squared = logits.square();
    squares.push_back(squared.sum(0, /*keepdim=*/false, torch::kFloat64));
    sums.push_back(torch::stack({squared.sum(1).sqrt().sum(torch::kFloat64),
                                 torch::logsumexp(logits, 1).square().sum(torch::kFloat64),
                                 torch::full({}, logits.size(0), squares.back().options())}));
    outputs.push_back(router.output_norms);
  }
  add_parts(totals.logit_squares, squares);
  add_parts(totals.logit_sums, sums);
  add_parts(totals.output_norms, outputs);
}

}  // namespace

void accumulate_routing(RoutingTotals& totals, const std::vector<RouterOutput>& routers) {
  if (routers.empty()) return;
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> counts;
  std::vector<Tensor> probabilities;
  std::vector<Tensor> entropies;
  std::vector<Tensor> dropped;
  totals.layers.clear();
  for (const RouterOutput& router : routers) {
    totals.layers.push_back(router.layer);
    const Tensor p = router.probabilities.detach();
    counts.push_back(tokens_per_expert(router).to(torch::kFloat64));
    probabilities.push_back(p.sum(0, /*keepdim=*/false, torch::kFloat64));
    entropies.push_back(torch::xlogy(p, p).sum(torch::kFloat64).neg());
    // What was chosen and not kept; zero, exactly, where capacity is not limited.
    dropped.push_back(router.kept.defined() ? counts.back().sum() - router.kept.sum().to(torch::kFloat64)
                                            : torch::zeros({}, p.options().dtype(torch::kFloat64)));
  }
  totals.observed.resize(routers.size());
  for (size_t i = 0; i < routers.size(); ++i) {
    if (!routers[i].observed.defined()) continue;
    torch::Tensor& sum = totals.observed[i];
    sum = sum.defined() ? sum + routers[i].observed : routers[i].observed;
  }
  add_parts(totals.tokens_per_expert, counts);
  add_parts(totals.probability_sums, probabilities);
  add_parts(totals.token_entropy_sums, entropies);
  add_parts(totals.dropped, dropped);
  accumulate_measures(totals, routers);
  totals.num_tokens += routers[0].logits.size(0);
  ++totals.num_micro_batches;
}

void accumulate_depths(DepthTotals& totals, const std::vector<DepthOutput>& depths) {
  if (depths.empty()) return;
  totals.layers.clear();
  std::vector<Tensor> counts;
  for (const DepthOutput& depth : depths) {
    totals.layers.push_back(depth.layer);
    counts.push_back(depth_counts(depth));
  }
  totals.counts = totals.counts.defined() ? totals.counts + torch::stack(counts) : torch::stack(counts);
  totals.num_tokens += depths[0].passed.numel();
}

TrainingStep::TrainingStep(Transformer model, AdamW& optimizer, const Config& config)
    : model_(std::move(model)), optimizer_(optimizer), config_(config) {}

Tensor TrainingStep::count_global_load(int64_t step, int64_t micro_batches, const MicroBatchSource& source) {
  const torch::NoGradGuard no_grad;
  Tensor counts;
  for (int64_t i = 0; i < micro_batches; ++i) {
    // The same seed as in the pass with gradients: dropout and jitter, and so the routing, are the same.
    seed_forward_pass(config_.run.seed, step, i);
    std::vector<Tensor> layers;
    for (const RouterOutput& router : model_->forward(source(i).inputs).routers) {
      layers.push_back(balanced_counts(router, config_.moe->aux_loss_choices, 1)[0]);
    }
    counts = counts.defined() ? counts + torch::stack(layers) : torch::stack(layers);
  }
  return load_from_counts(counts, torch::kFloat64);
}

StepLosses TrainingStep::gradients(int64_t step, int64_t micro_batches, const MicroBatchSource& source) {
  const bool has_experts = config_.moe.has_value();
  const double share = 1.0 / static_cast<double>(micro_batches);
  routing_ = {};
  depths_ = {};
  model_->train();
  Tensor global_load;
  if (has_experts && micro_batches > 1 && config_.moe->aux_loss_scope == AuxLossScope::kGlobalBatch &&
      config_.moe->aux_loss_coeff > 0) {
    global_load = count_global_load(step, micro_batches, source);
  }
  model_->set_measuring(is_logged_step(config_, step));
  Tensor sums;  // total, lm, then the auxiliary losses
  std::vector<NamedLoss> auxiliary;
  for (int64_t i = 0; i < micro_batches; ++i) {
    seed_forward_pass(config_.run.seed, step, i);
    const BatchTensors batch = source(i);
    const ModelOutput output = model_->forward(batch.inputs);
    const Tensor lm = model_->language_model_loss(output.hidden, batch.targets);
    Tensor total = lm;
    std::vector<Tensor> parts = {lm.detach()};
    auxiliary.clear();
    if (!output.routers.empty()) {
      auxiliary = auxiliary_losses(output.routers, *config_.moe, batch.num_sequences, global_load);
    }
    if (!output.depths.empty()) {
      auxiliary.push_back(depth_loss(output.depths, config_.mixture_of_depths->predictor_coeff));
    }
    for (const NamedLoss& loss : auxiliary) {
      if (loss.coefficient != 0) total = total + loss.coefficient * loss.value;
      parts.push_back(loss.value.detach() / static_cast<double>(loss.num_layers));
    }
    parts.insert(parts.begin(), total.detach());
    (total * share).backward();
    accumulate_routing(routing_, output.routers);
    accumulate_depths(depths_, output.depths);
    const Tensor wide = torch::stack(parts).to(torch::kFloat64) * share;
    sums = sums.defined() ? sums + wide : wide;
  }
  model_->set_measuring(false);
  norm_ = optimizer_.gradient_norm();
  const Tensor host = torch::cat({sums, norm_.detach().to(torch::kFloat64).view({1})}).cpu();
  const double* values = host.const_data_ptr<double>();
  StepLosses losses{.total = values[0], .lm = values[1], .grad_norm = values[2 + auxiliary.size()], .auxiliary = {}};
  for (size_t i = 0; i < auxiliary.size(); ++i) losses.auxiliary.emplace_back(auxiliary[i].name, values[2 + i]);
  return losses;
}

void TrainingStep::update(double lr) {
  optimizer_.step(lr, norm_);
  optimizer_.clear_gradients();
  if (routing_.layers.empty()) return;
  std::vector<Tensor> observed = routing_.observed;
  for (Tensor& sum : observed) {
    if (sum.defined()) sum = sum / static_cast<double>(routing_.num_micro_batches);
  }
  model_->after_step(routing_.tokens_per_expert, observed);
}

void TrainingStep::discard() { optimizer_.clear_gradients(); }

}  // namespace switchyard
