#include "train/loop.h"

#include <algorithm>
#include <chrono>

#include "base/errors.h"
#include "base/logging.h"
#include "base/text.h"
#include "metrics/jsonl.h"
#include "model/accounting.h"
#include "optim/schedule.h"
#include "train/run_folder.h"
#include "train/signals.h"

namespace switchyard {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

bool evaluation_is_due(const RunState& state, const fs::path& folder) {
  const fs::path metrics = folder / "metrics.jsonl";
  if (!state.evaluation_due || !fs::exists(metrics)) return state.evaluation_due;
  const std::vector<Json> lines = read_jsonl(metrics);
  return std::none_of(lines.begin(), lines.end(), [&](const Json& line) {
    return is_event(line, "eval") && line.value("step", Json()) == state.step;
  });
}

void Trainer::restore(const Checkpoint& checkpoint, const fs::path& path, bool partial) {
  load_weights(open_tensors(path, TensorKind::kModel), model_, step_, *world_, partial, "the model");
  load_tensors(open_tensors(path, TensorKind::kOptimizer), optimizer_pieces(step_, *world_), partial,
               "the optimizer state");
  step_.optimizer().set_steps(optimizer_steps(checkpoint));
  state_ = restore_state(checkpoint);
  state_.evaluation_due = evaluation_is_due(state_, folder_);
  spikes_.restore(state_.spike_window);
  restore_idle_steps();
  saved_step_ = state_.step;
}

void Trainer::restore_idle_steps() {
  const auto& table = state_.steps_since_used;
  const auto ragged = [&](const auto& row) { return row.size() != table[0].size(); };
  if (table.empty() || table[0].empty() || std::any_of(table.begin(), table.end(), ragged)) return;
  std::vector<int64_t> flat;
  for (const auto& row : table) flat.insert(flat.end(), row.begin(), row.end());
  idle_steps_ = torch::tensor(flat, torch::kInt64).view({static_cast<int64_t>(table.size()), -1}).to(device_);
}

namespace {

// ", each of 4 ranks; experts spread over 2"; nothing for one process.
std::string describe(World& world) {
  if (world.size() == 1) return "";
  std::string text = formatted(", each of %d ranks", world.size());
  if (world.experts().size() > 1) text += formatted("; experts spread over %d", world.experts().size());
  return text;
}

}  // namespace

void Trainer::announce() const {
  const ParameterCount count = count_parameters(config_);
  log_info(formatted("%s parameters, %s active per token; %s on %s, %d threads%s",
                     with_si_suffix(double(count.total)).c_str(), with_si_suffix(double(count.active)).c_str(),
                     precision_name(config_.training.precision), device_.str().c_str(), at::get_num_threads(),
                     describe(*world_).c_str()));
  warn_if_not_causal(config_);
  warn_of_budget(config_, dataset_, sampler_);
  if (!config_.moe) return;
  const int64_t layers = num_moe_layers(config_);
  const MoeConfig& moe = *config_.moe;
  const double balance =
      moe.aux_loss_layers == AuxLossLayers::kMean ? moe.aux_loss_coeff / double(layers) : moe.aux_loss_coeff;
  log_info(
      formatted("effective coefficients, on losses summed over %ld MoE layers: load balancing %g (1.0 per layer "
                "when balanced, which then adds %g to the loss), router z %g",
                layers, balance, balance * double(layers), moe.z_loss_coeff));
}

void Trainer::stop_for(const StepLosses& losses) {
  std::string where;
  if (world_->size() > 1 && losses.faulty_rank >= 0) where = formatted(" (first on rank %d)", losses.faulty_rank);
  AdamW& optimizer = step_.optimizer();
  for (const auto& [name, parameter] : optimizer.parameters()) {
    if (!torch::isfinite(parameter).all().item<bool>()) {
      throw NumericError(formatted("step %ld: loss %g%s with gradient norm %g: the parameter %s is not finite",
                                   state_.step + 1, losses.total, where.c_str(), losses.grad_norm, name.c_str()));
    }
  }
  const std::string name = optimizer.first_bad_gradient();
  throw NumericError(formatted(
      "step %ld: loss %g%s and gradient norm %g must be finite; stopped before the update; first bad tensor: %s",
      state_.step + 1, losses.total, where.c_str(), losses.grad_norm,
      name.empty() ? "the loss" : ("gradient of " + name).c_str()));
}

bool Trainer::accept(const StepLosses& losses) {
  const bool skip = config_.training.spike.action == SpikeAction::kSkip;
  if (!losses.finite() && !skip) stop_for(losses);
  const double judged = losses.finite() ? losses.lm : std::numeric_limits<double>::quiet_NaN();
  if (!spikes_.is_spike(judged)) {
    spikes_.record(losses.lm);
    return true;
  }
  log_warning(formatted("step %ld: loss %.4f (gradient norm %.3g) spikes above the recent mean %.4f%s", state_.step + 1,
                        losses.lm, losses.grad_norm, spikes_.mean(), skip ? ": update skipped" : ""));
  if (skip) return false;
  spikes_.record(losses.lm);
  return true;
}

// Kept on the device; the host reads it where it is logged or saved.
void Trainer::track_experts() {
  const RoutingTotals& routing = step_.routing();
  if (routing.layers.empty()) return;
  const torch::Tensor used = routing.tokens_per_expert > 0;
  // A checkpoint of another architecture may have brought other sizes.
  if (!idle_steps_.defined() || idle_steps_.sizes() != used.sizes()) {
    idle_steps_ = torch::zeros_like(used, torch::kInt64);
  }
  idle_steps_ = (idle_steps_ + 1).masked_fill(used, 0);
}

std::vector<std::vector<int64_t>> Trainer::steps_since_used() const {
  std::vector<std::vector<int64_t>> table;
  if (!idle_steps_.defined()) return table;
  const torch::Tensor host = idle_steps_.cpu();
  for (int64_t layer = 0; layer < host.size(0); ++layer) {
    const int64_t* row = host.const_data_ptr<int64_t>() + layer * host.size(1);
    table.emplace_back(row, row + host.size(1));
  }
  return table;
}

void Trainer::train_one_step(RunLog* log) {
  const auto begin = Clock::now();
  const TrainingConfig& training = config_.training;
  const int64_t step = state_.step + 1;
  const int64_t sequences = *training.global_batch_size;
  const double lr = learning_rate(config_, step);
  // Counted by what was seen, not by steps: batches may have had another size before.
  const int64_t seen = state_.tokens / training.seq_length;
  const MicroBatchSource source = [&](int64_t micro_batch) {
    const int64_t first = seen + micro_batch * training.micro_batch_size;
    return to_tensors(sampler_.batch(first, training.micro_batch_size), device_);
  };
  const StepLosses losses = step_.gradients(step, sequences / training.micro_batch_size, source, StopSignals::number());
  signal_ = losses.notice;
  if (accept(losses)) {
    step_.update(lr);
  } else {
    step_.discard();
  }
  track_experts();
  state_.step = step;
  state_.tokens += sequences * training.seq_length;
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  speed_.add(sequences * training.seq_length, seconds);
  StopSignals::note_step(seconds);
  finish_step(log, losses, lr);
}

void Trainer::finish_step(RunLog* log, const StepLosses& losses, double lr) {
  const bool logged = is_logged_step(config_, state_.step);
  std::vector<LayerRouting> layers;
  if (logged) layers = summarise_routing(step_.routing(), steps_since_used(), config_.metrics.dead_expert_window);
  if (log != nullptr) {
    if (logged) {
      speed_now_ = speed_.read();
      log->training(state_.step, state_.tokens, losses, lr, speed_now_);
      log->routing(state_.step, layers);
      log->depth(state_.step, step_.depths());
    }
    const double tokens_left = double(config_.training.max_steps - state_.step) *
                               double(*config_.training.global_batch_size * config_.training.seq_length);
    log->progress({.step = state_.step,
                   .max_steps = config_.training.max_steps,
                   .loss = losses.lm,
                   .balance = losses.auxiliary_loss("aux_loss"),
                   .tokens_per_second = speed_now_,
                   .seconds_left = tokens_left / speed_now_},
                  logged);
  }
  judge_routing(log, layers);
}

// Every rank judges the same numbers, and so comes to the same end.
void Trainer::judge_routing(RunLog* log, const std::vector<LayerRouting>& layers) {
  // While the learning rate rises, routing swings and settles again.
  if (state_.step <= config_.schedule.warmup_steps) return;
  bool sounded = false;
  for (const LayerRouting& layer : layers) {
    for (const Collapse& collapse : alarm_.judge(layer.layer, layer.statistics)) {
      if (log != nullptr) log->alarm(state_.step, collapse, advice_against(collapse, *config_.moe));
      sounded = true;
    }
  }
  if (!sounded || config_.metrics.alarm.action != AlarmAction::kStop) return;
  state_.evaluation_due = due(config_.eval.interval);
  save();
  report_saved(background_.wait());
  if (log != nullptr) log->event("stopped", state_.step);
  throw NumericError(
      formatted("step %ld: saved and stopped, because the routing has collapsed (see the alarm above) and "
                "metrics.alarm.action is stop; go on with: switchyard train --resume %s metrics.alarm.action=warn",
                state_.step, folder_.c_str()));
}

bool Trainer::evaluate_now(RunLog* log) {
  state_.evaluation_due = true;
  probe_.begin();
  const auto interrupted = [this](int signal) {
    signal_ = std::max(signal_, signal);
    return signal_ != 0;
  };
  const auto evaluation = evaluate(
      model_, dataset_, config_, device_, *world_, interrupted,
      [this](int64_t domain, const ModelOutput& output, bool counted) { probe_.add(domain, output, counted); });
  if (!evaluation) return false;
  state_.evaluation_due = false;
  std::vector<std::string> names;
  for (const Domain& domain : dataset_.domains) names.push_back(domain.name);
  const std::vector<ProbedRouting> probed = probe_.finish(world_->all());
  if (log != nullptr) {
    log->evaluation(state_.step, *evaluation);
    log->probe(state_.step, probed, names);
  }
  std::string domains;
  for (const auto& [name, loss] : evaluation->domains) domains += formatted("  %s %.4f", name.c_str(), loss);
  log_info(formatted("step %ld: validation loss %.4f, perplexity %.2f%s", state_.step, evaluation->val_loss,
                     std::exp(evaluation->val_loss), evaluation->domains.size() > 1 ? domains.c_str() : ""));
  return true;
}

void Trainer::save() {
  if (saved_step_ == state_.step) return;
  state_.spike_window = spikes_.window();
  state_.steps_since_used = steps_since_used();
  const Checkpoint checkpoint =
      make_checkpoint(state_, step_.optimizer().steps(), config_, *dataset_.tokenizer, dataset_.fingerprint);
  CheckpointShare share = owned_share(model_, step_, *world_);
  saved_step_ = state_.step;
  const fs::path folder = folder_ / "checkpoints";
  const int64_t keep_last = config_.checkpoint.keep_last;
  if (config_.checkpoint.background) {
    report_saved(background_.wait());
    background_.start(folder, checkpoint, std::move(share), keep_last, world_->saving());
  } else {
    report_saved(save_checkpoint_share(folder, checkpoint, share, keep_last, world_->saving()).string());
  }
}

void Trainer::report_saved(const std::string& path) const {
  if (path.empty()) return;
  if (world_->first()) note_saved(folder_);
  log_info("saved " + path);
}

TrainOutcome Trainer::stop(RunLog* log) {
  save();
  report_saved(background_.wait());
  if (log != nullptr) log->event("stopped", state_.step);
  const int signal = world_->size() > 1 ? signal_ : StopSignals::number();
  log_warning(formatted("%s received: saved step %ld and stopped; go on with: switchyard train --resume %s",
                        StopSignals::name(signal), state_.step, folder_.c_str()));
  return TrainOutcome::kStopped;
}

TrainOutcome Trainer::run() {
  try {
    return run_steps();
  } catch (const DataError&) {  // a shard was cut, or its disk fails: what was trained is not lost with it
    if (world_->size() == 1) save();
    if (world_->size() == 1) report_saved(background_.wait());
    throw;
  }
}

TrainOutcome Trainer::run_steps() {
  const StopSignals signals(/*answers=*/world_->first());
  std::unique_ptr<RunLog> writer;
  if (world_->first()) {
    writer = std::make_unique<RunLog>(folder_, config_, state_.step > 0 ? state_.step : (saved_step_ >= 0 ? 0 : -1));
  }
  RunLog* log = writer.get();
  announce();
  if (log != nullptr) log->start(state_.step, config_);
  if (state_.evaluation_due && !evaluate_now(log)) return stop(log);
  while (state_.step < config_.training.max_steps) {
    if (told_to_stop()) return stop(log);
    train_one_step(log);
    report_saved(background_.finished());
    if (told_to_stop()) {
      state_.evaluation_due = due(config_.eval.interval);
      return stop(log);
    }
    if (due(config_.eval.interval) && !evaluate_now(log)) return stop(log);
    if (due(config_.checkpoint.interval)) save();
  }
  report_saved(background_.wait());
  if (log != nullptr) log->event("end", state_.step);
  return TrainOutcome::kFinished;
}

}  // namespace switchyard
