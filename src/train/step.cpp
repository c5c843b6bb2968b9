#include "train/step.h"

#include <cmath>

#include "config/router_keys.h"
#include "losses/auxiliary.h"
#include "losses/depth.h"
#include "losses/load_balancing.h"
#include "model/accounting.h"
#include "ops/step_parts.h"
#include "parallel/agree.h"
#include "parallel/all_to_all_dispatcher.h"

namespace switchyard {

using torch::Tensor;

bool StepLosses::finite() const { return std::isfinite(total) && std::isfinite(grad_norm); }

double StepLosses::auxiliary_loss(std::string_view name) const {
  for (const auto& [key, value] : auxiliary) {
    if (key == name) return value;
  }
  return 0;
}

std::vector<Tensor*> sums_of(RoutingTotals& totals) {
  std::vector<Tensor*> sums = {&totals.tokens_per_expert, &totals.dropped};
  for (Tensor* measured : {&totals.probability_sums, &totals.token_entropy_sums, &totals.logit_squares,
                           &totals.logit_sums, &totals.output_norms}) {
    if (measured->defined()) sums.push_back(measured);
  }
  for (Tensor& observed : totals.observed) {
    if (observed.defined()) sums.push_back(&observed);
  }
  return sums;
}

bool is_logged_step(const Config& config, int64_t step) {
  return step == 1 || step == config.training.max_steps || step % config.training.log_interval == 0;
}

namespace {

void add(Tensor& total, const Tensor& part) { total = total.defined() ? total + part : part; }
void add_parts(Tensor& total, const std::vector<Tensor>& parts) { add(total, torch::stack(parts)); }

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

namespace {

void accumulate_probabilities(RoutingTotals& totals, const std::vector<RouterOutput>& routers) {
  std::vector<Tensor> probabilities;
  std::vector<Tensor> entropies;
  for (const RouterOutput& router : routers) {
    const Tensor p = router.probabilities.detach();
    probabilities.push_back(p.sum(0, /*keepdim=*/false, torch::kFloat64));
    entropies.push_back(torch::xlogy(p, p).sum(torch::kFloat64).neg());
  }
  add_parts(totals.probability_sums, probabilities);
  add_parts(totals.token_entropy_sums, entropies);
}

}  // namespace

void accumulate_routing(RoutingTotals& totals, const std::vector<RouterOutput>& routers, bool logged) {
  if (routers.empty()) return;
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> counts;
  std::vector<Tensor> dropped;
  totals.layers.clear();
  const Tensor none = torch::zeros({}, routers[0].logits.options().dtype(torch::kFloat64).requires_grad(false));
  for (const RouterOutput& router : routers) {
    totals.layers.push_back(router.layer);
    counts.push_back(tokens_per_expert(router));
    // What was chosen and not kept; zero, exactly, where capacity is not limited.
    dropped.push_back(router.kept.defined() ? (counts.back().sum() - router.kept.sum()).to(torch::kFloat64) : none);
  }
  totals.observed.resize(routers.size());
  for (size_t i = 0; i < routers.size(); ++i) {
    if (routers[i].observed.defined()) add(totals.observed[i], routers[i].observed);
  }
  add(totals.tokens_per_expert, torch::stack(counts).to(torch::kFloat64));
  add_parts(totals.dropped, dropped);
  if (logged) accumulate_probabilities(totals, routers);
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
  add_parts(totals.counts, counts);
  totals.num_tokens += depths[0].passed.numel();
}

// What the micro-batches of this rank add up to.
struct TrainingStep::Sums {
  Tensor losses;                     // total, lm, then the auxiliary losses: their share of the step's means
  std::vector<NamedLoss> auxiliary;  // of the last micro-batch
};

TrainingStep::TrainingStep(Transformer model, const Config& config, std::shared_ptr<World> world)
    : model_(std::move(model)),
      world_(std::move(world)),
      buckets_(trained_parameters_of(model_), *world_, config.parallel.bucket_megabytes << 20,
               config.parallel.distributed_optimizer && world_->size() > 1),
      optimizer_(buckets_.optimizer_parameters(), buckets_.decayed(), config.optimizer, buckets_.copies()),
      config_(config) {
  if (world_->experts().size() > 1) {
    model_->set_dispatcher(std::make_shared<AllToAllDispatcher>(world_->experts(), expert_row_bytes(config)));
  }
}

Tensor TrainingStep::loads_of(const std::vector<RouterOutput>& routers) const {
  std::vector<Tensor> layers;
  for (const RouterOutput& router : routers) {
    layers.push_back(balanced_counts(router, config_.moe->aux_loss_choices, 1)[0]);
  }
  return torch::stack(layers);
}

Tensor TrainingStep::loads_over_ranks(Tensor counts) {
  world_->all().all_reduce(counts).wait();
  return load_from_counts(counts, torch::kFloat64);
}

Tensor TrainingStep::count_global_load(int64_t step, int64_t first, int64_t count, const MicroBatchSource& source) {
  const torch::NoGradGuard no_grad;
  Tensor counts;
  for (int64_t i = first; i < first + count; ++i) {
    // The same seed as in the pass with gradients: dropout and jitter, and so the routing, are the same.
    seed_forward_pass(config_.run.seed, step, i);
    const Tensor loads = loads_of(model_->forward(source(i).inputs).routers);
    counts = counts.defined() ? counts + loads : loads;
  }
  return loads_over_ranks(counts);
}

// The language-model loss `lm` and what is added to it. `parts` gets the total in front and each loss behind.
Tensor TrainingStep::with_auxiliary(const ModelOutput& output, const Tensor& lm, int64_t num_sequences,
                                    Tensor global_load, Sums& sums, std::vector<Tensor>& parts) {
  const StepPartScope part(StepPart::kLoss);
  Tensor total = lm;
  sums.auxiliary.clear();
  if (!output.routers.empty()) {
    // Other ranks have the rest of the batch; the only micro-batch of this one tells its load by itself.
    if (!global_load.defined() && needs_global_load(config_) && world_->size() > 1)
      global_load = loads_over_ranks(loads_of(output.routers));
    sums.auxiliary = auxiliary_losses(output.routers, *config_.moe, num_sequences, global_load);
  }
  if (!output.depths.empty()) {
    sums.auxiliary.push_back(depth_loss(output.depths, config_.mixture_of_depths->predictor_coeff));
  }
  for (const NamedLoss& loss : sums.auxiliary) {
    if (loss.coefficient != 0) total = total + loss.coefficient * loss.value;
    parts.push_back(loss.value.detach() / static_cast<double>(loss.num_layers));
  }
  parts.insert(parts.begin(), total.detach());
  return total;
}

void TrainingStep::one_micro_batch(const BatchTensors& batch, double share, Tensor global_load, bool logged,
                                   Sums& sums) {
  const ModelOutput output = model_->forward(batch.inputs);
  const Tensor lm = model_->language_model_loss(output, batch.targets);
  std::vector<Tensor> parts = {lm.detach()};
  const Tensor total = with_auxiliary(output, lm, batch.num_sequences, global_load, sums, parts);
  (total * share).backward();
  const StepPartScope part(StepPart::kStatistics);
  accumulate_routing(routing_, output.routers, logged);
  accumulate_depths(depths_, output.depths);
  add(sums.losses, torch::stack(parts).to(torch::kFloat64) * share);
}

// Everything that is a sum over tokens, in one all-reduce.
void TrainingStep::add_totals_over_ranks() {
  if (world_->size() == 1) return;
  const torch::NoGradGuard no_grad;
  std::vector<Tensor*> sums = routing_.layers.empty() ? std::vector<Tensor*>{} : sums_of(routing_);
  if (depths_.counts.defined()) sums.push_back(&depths_.counts);
  if (sums.empty()) return;
  std::vector<Tensor> flat;
  for (const Tensor* sum : sums) flat.push_back(sum->to(torch::kFloat64).flatten());
  const Tensor joined = torch::cat(flat);
  world_->all().all_reduce(joined).wait();
  int64_t begin = 0;
  for (Tensor* sum : sums) {
    const int64_t size = sum->numel();
    *sum = joined.narrow(0, begin, size).view(sum->sizes()).to(sum->scalar_type());
    begin += size;
  }
  routing_.num_tokens *= world_->size();
  routing_.num_micro_batches *= world_->size();
  depths_.num_tokens *= world_->size();
}

// One host read, and with several ranks one all-gather, tell every rank the same.
StepLosses TrainingStep::over_ranks(const Sums& sums, int notice) {
  const StepPartScope part(StepPart::kOptimizer);
  const bool alone = world_->size() == 1;
  // Each parameter counts once: every rank takes the part that it owns.
  const Tensor own_norm = alone ? optimizer_.gradient_norm() : joint_norm(buckets_.owned_gradients());
  const Tensor own = torch::cat({sums.losses, own_norm.detach().to(torch::kFloat64).to(sums.losses.device()).view({1}),
                                 torch::full({1}, double(notice), sums.losses.options())})
                         .cpu();
  const Tensor all = gather_rows(world_->control(), own);
  const int64_t count = own.numel();
  const auto at = [&](int64_t rank, int64_t i) { return all.const_data_ptr<double>()[rank * count + i]; };
  const auto sum = [&](int64_t i) {
    double total = 0;
    for (int64_t rank = 0; rank < all.size(0); ++rank) total += at(rank, i);
    return total;
  };
  StepLosses losses{.total = sum(0), .lm = sum(1), .grad_norm = 0, .auxiliary = {}};
  double squares = 0;
  for (int64_t rank = all.size(0) - 1; rank >= 0; --rank) {
    squares += at(rank, count - 2) * at(rank, count - 2);
    losses.notice = std::max(losses.notice, static_cast<int>(at(rank, count - 1)));
    if (!std::isfinite(at(rank, 0))) losses.faulty_rank = static_cast<int>(rank);
  }
  losses.grad_norm = alone ? at(0, count - 2) : std::sqrt(squares);
  norm_ = alone ? own_norm : torch::full({}, losses.grad_norm, own_norm.options());
  for (size_t i = 0; i < sums.auxiliary.size(); ++i) {
    losses.auxiliary.emplace_back(sums.auxiliary[i].name, sum(2 + static_cast<int64_t>(i)));
  }
  return losses;
}

StepLosses TrainingStep::gradients(int64_t step, int64_t micro_batches, const MicroBatchSource& source, int notice) {
  const int64_t count = micro_batches / world_->size();
  const int64_t first = world_->rank() * count;
  routing_ = {};
  depths_ = {};
  model_->train();
  Tensor global_load;
  if (count > 1 && needs_global_load(config_)) global_load = count_global_load(step, first, count, source);
  const bool logged = is_logged_step(config_, step);
  model_->set_measuring(logged);
  Sums sums;
  for (int64_t i = first; i < first + count; ++i) {
    seed_forward_pass(config_.run.seed, step, i);
    const BatchTensors batch = source(i);
    if (i == first + count - 1) buckets_.arm();
    one_micro_batch(batch, 1.0 / static_cast<double>(micro_batches), global_load, logged, sums);
    if (i < first + count - 1) buckets_.accumulate();
  }
  model_->set_measuring(false);
  buckets_.finish();
  add_totals_over_ranks();
  return over_ranks(sums, notice);
}

void TrainingStep::update(double lr) {
  const StepPartScope part(StepPart::kOptimizer);
  optimizer_.step(lr, norm_);
  optimizer_.clear_gradients();
  buckets_.gather_parameters();
  if (routing_.layers.empty()) return;
  std::vector<Tensor> observed = routing_.observed;
  for (Tensor& sum : observed) {
    if (sum.defined()) sum = sum / static_cast<double>(routing_.num_micro_batches);
  }
  model_->after_step(routing_.tokens_per_expert, observed);
}

void TrainingStep::discard() { optimizer_.clear_gradients(); }

}  // namespace switchyard
