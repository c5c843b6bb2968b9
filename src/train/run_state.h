// A run as a checkpoint and back: every tensor, and everything else that the next step depends on.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "data/tokenizer.h"
#include "optim/adamw.h"
#include "train/setup.h"
#include "train/step.h"

namespace switchyard {

// What changes from step to step besides the tensors.
struct RunState {
  int64_t step = 0;                                    // finished steps
  int64_t tokens = 0;                                  // trained on
  bool evaluation_due = false;                         // a signal came before this step's evaluation was done
  std::vector<double> spike_window;                    // recent losses
  std::vector<std::vector<int64_t>> steps_since_used;  // [MoE layer][expert]
};

// Everything but the tensors. `data_fingerprint` is Dataset::fingerprint.
Checkpoint make_checkpoint(const RunState& state, int64_t optimizer_steps, const Config& config,
                           const Tokenizer& tokenizer, const std::string& data_fingerprint);

// The experts of each layer that this rank holds; nothing: all.
std::optional<ExpertRange> experts_here(const Config& config, World& world);

// The moments that this rank holds, as parts of the model's whole ones: for loading.
std::vector<TensorPiece> optimizer_pieces(TrainingStep& step, World& world);
// The parameters, buffers and moments that this rank saves: over all ranks, every element once.
CheckpointShare owned_share(Transformer& model, TrainingStep& step, World& world);

// The checkpoint before step 1 of a model that comes from elsewhere: no optimizer state, no data fingerprint.
Checkpoint make_initial_checkpoint(TensorMap model, const Config& config, const Tokenizer& tokenizer);

// Copies the whole tensors of `from` into the pieces `to`. Missing, left-over or differently shaped ones are a
// CheckpointError that names them all, unless `partial`: then those that fit are taken and the others logged.
void load_tensors(const TensorSource& from, const std::vector<TensorPiece>& to, bool partial, const std::string& where);

// The same into the weights and buffers that `step` trains `model` with.
void load_weights(const TensorSource& from, Transformer& model, TrainingStep& step, World& world, bool partial,
                  const std::string& where);

// The reverse of make_checkpoint. Throws CheckpointError naming the key of trainer.json that is missing or wrong.
RunState restore_state(const Checkpoint& checkpoint);
// Of the data it was trained on: Dataset::fingerprint.
std::string data_fingerprint(const Checkpoint& checkpoint);
// Updates that the optimizer had done.
int64_t optimizer_steps(const Checkpoint& checkpoint);

// What a checkpoint needs to be used without its run: configuration and tokenizer from its files, weights loaded.
struct LoadedModel {
  std::filesystem::path folder;  // of the checkpoint
  Config config;
  std::shared_ptr<const Tokenizer> tokenizer;
  Transformer model{nullptr};
  torch::Device device = torch::kCPU;  // where it is
  int64_t step = 0;
};
// `path` as resolve_checkpoint takes it; overrides apply to its configuration and must not change the architecture.
LoadedModel load_model(const std::filesystem::path& path, const std::vector<std::string>& overrides);

// The configuration that a checkpoint holds. Throws CheckpointError or ConfigError.
Config checkpoint_config(const Checkpoint& checkpoint, const std::filesystem::path& path,
                         const std::vector<std::string>& overrides);

// The tokenizer that a checkpoint holds. Throws CheckpointError or DataError.
std::unique_ptr<Tokenizer> checkpoint_tokenizer(const Checkpoint& checkpoint, const std::filesystem::path& path);

// Keys whose change makes another model of it (model.* without dropout and initialisation, and the shape of moe.*).
std::vector<std::string> architecture_changes(const Config& before, const Config& after);

}  // namespace switchyard
