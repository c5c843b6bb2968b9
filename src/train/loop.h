// One run from its present state to its end: steps, evaluation, saving, signals.
#pragma once

#include <filesystem>
#include <limits>

#include "checkpoint/checkpoint.h"
#include "data/batches.h"
#include "data/dataset.h"
#include "train/background_save.h"
#include "train/run_log.h"
#include "train/run_state.h"
#include "train/setup.h"
#include "train/signals.h"
#include "train/spike_guard.h"
#include "train/step.h"
#include "train/trainer.h"

namespace switchyard {

// Tokens per second since the last reading, with evaluation and saving left out.
class Speedometer {
 public:
  void add(int64_t tokens, double seconds) {
    tokens_ += tokens;
    seconds_ += seconds;
  }
  double read() {
    if (seconds_ > 0) last_ = static_cast<double>(tokens_) / seconds_;
    tokens_ = 0;
    seconds_ = 0;
    return last_;
  }

 private:
  int64_t tokens_ = 0;
  double seconds_ = 0;
  double last_ = std::numeric_limits<double>::quiet_NaN();
};

// Whether a signal cut off the evaluation of the state's step and no resumed process has made up for it since: the
// checkpoint does not change when one does, so metrics.jsonl tells.
bool evaluation_is_due(const RunState& state, const std::filesystem::path& folder);

class Trainer {
 public:
  // A run from step 1. config.model.vocab_size must be set. Every rank makes one; together they train.
  Trainer(const Config& config, Dataset dataset, const std::shared_ptr<World>& world)
      : config_(config),
        world_(world),
        dataset_(std::move(dataset)),
        device_(world->device()),
        model_(build_model(config, device_, experts_here(config, *world))),
        step_(model_, config, world),
        sampler_(dataset_, static_cast<uint64_t>(config.run.seed), config.training.seq_length),
        spikes_(config.training.spike),
        alarm_(config.metrics.alarm),
        probe_(static_cast<int64_t>(dataset_.domains.size())),
        folder_(config.run.dir) {}

  // Goes on from a checkpoint, which lies at `path` and has been verified; its tensors are read there, each rank its
  // share. `partial`: what fits is taken. Throws CheckpointError.
  void restore(const Checkpoint& checkpoint, const std::filesystem::path& path, bool partial);
  // Replaces the initial weights by those of a checkpoint.
  void start_with(const std::filesystem::path& checkpoint) {
    load_weights(open_tensors(checkpoint, TensorKind::kModel), model_, step_, *world_, /*partial=*/false,
                 checkpoint.string());
  }

  TrainOutcome run();

 private:
  void announce() const;
  // `log` is null but on the first rank, here and below.
  void train_one_step(RunLog* log);
  // Throws NumericError naming what is not finite.
  [[noreturn]] void stop_for(const StepLosses& losses);
  // False where the update must not happen; throws where the run must stop.
  bool accept(const StepLosses& losses);
  void track_experts();
  void restore_idle_steps();
  std::vector<std::vector<int64_t>> steps_since_used() const;
  void finish_step(RunLog* log, const StepLosses& losses, double lr);
  // Throws NumericError, after saving, where metrics.alarm.action is stop.
  void judge_routing(RunLog* log, const std::vector<LayerRouting>& layers);
  bool evaluate_now(RunLog* log);
  void save();
  void report_saved(const std::string& path) const;
  TrainOutcome run_steps();
  TrainOutcome stop(RunLog* log);
  // Whether this rank got a signal; with several, whether any had one when they last spoke.
  bool told_to_stop() const { return world_->size() > 1 ? signal_ != 0 : StopSignals::received(); }
  bool due(int64_t interval) const {
    return state_.step == config_.training.max_steps || (interval > 0 && state_.step % interval == 0);
  }

  Config config_;
  std::shared_ptr<World> world_;
  Dataset dataset_;
  torch::Device device_;
  Transformer model_;
  TrainingStep step_;
  TrainingSampler sampler_;
  SpikeGuard spikes_;
  CollapseAlarm alarm_;
  RoutingProbe probe_;
  torch::Tensor idle_steps_;  // [MoE layers, E] int64: steps since an expert last had a token
  RunState state_;
  std::filesystem::path folder_;
  int64_t saved_step_ = -1;
  BackgroundSave background_;
  int signal_ = 0;  // that any rank got, as of the last step or evaluation
  Speedometer speed_;
  double speed_now_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace switchyard
