// From a configuration to the things a run is made of.
#pragma once

#include <cstdint>
#include <functional>

#include "config/config.h"
#include "data/batches.h"
#include "model/transformer.h"
#include "ops/torch.h"
#include "optim/adamw.h"
#include "optim/master_weights.h"
#include "parallel/launch.h"

namespace switchyard {

// The GPUs that can be used; a test has others than the machine.
struct Gpus {
  int count = 0;
  std::function<void(torch::Device)> select;  // makes one the process's current device
};
Gpus gpus_of_machine();

// Which device this process computes on, selected: `auto` takes a GPU if there is one, that of the local rank.
// Decided once, where a process joins (World::device()) or loads a model (LoadedModel::device). Throws ConfigError if
// cuda is asked for and absent, or has fewer GPUs than this machine has ranks.
torch::Device choose_device(DeviceKind wanted, int local_rank, const Gpus& gpus);
// Sets the number of threads of ATen's operations: training.num_threads, or where that is 0, OMP_NUM_THREADS, or where
// that is not set, one per core that this process may use, the cores shared by the ranks of this machine. Several
// threads then wait as ops/waiting_threads.h says.
void set_threads(const Config& config, const Launch& launch);
// Says where a run's length does not go with its warm-up, or with the size of its texts.
void warn_of_budget(const Config& config, const Dataset& dataset, const TrainingSampler& sampler);
// The type of activations and matrix products.
torch::ScalarType compute_type(const Config& config);

// `config` with model.vocab_size filled from the tokenizer's where it is not given.
Config with_vocabulary(Config config, int64_t tokenizer_vocab_size);

// Puts a model on `device`: parameters in float32 (float64 with precision fp64), activations in compute_type(config).
void place_model(Transformer& model, const Config& config, torch::Device device);
// A model there, initialised from run.seed. `experts`: those of each layer that this process holds; default: all.
Transformer build_model(const Config& config, torch::Device device, std::optional<ExpertRange> experts = std::nullopt);

// Parameters by name, in the order of the model.
NamedTensors named_parameters_of(Transformer& model);
// Those and the buffers, such as expert biases: what a checkpoint holds.
NamedTensors named_tensors_of(Transformer& model);
// Parameters to train, in that order. Where the model computes in another type than its parameters have, its
// projections are changed to that type, and what they were become the master weights: so they are cast once a step, and
// fewer bytes of gradients are moved. Embeddings, norms, biases and routers stay as they are.
TrainedParameters trained_parameters_of(Transformer& model);

// Makes dropout, jitter and noise of one forward pass a pure function of (seed, step, micro-batch): seeds ATen's
// default generators. There is no random state to save.
void seed_forward_pass(int64_t seed, int64_t step, int64_t micro_batch);

// A batch on the device: inputs [B, S] and targets [B * S], int64; -1: not counted (TokenBatch::repeated_targets).
struct BatchTensors {
  torch::Tensor inputs;
  torch::Tensor targets;
  int64_t num_sequences = 0;
};
BatchTensors to_tensors(const TokenBatch& batch, torch::Device device);

}  // namespace switchyard
