#include "train/setup.h"

#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/cuda.h>

#include "base/errors.h"
#include "base/logging.h"
#include "base/random.h"
#include "base/system.h"
#include "base/text.h"
#include "ops/waiting_threads.h"

namespace switchyard {

Gpus gpus_of_machine() {
  if (!torch::cuda::is_available()) return {};
  return {.count = static_cast<int>(torch::cuda::device_count()),
          .select = [](torch::Device device) { c10::impl::VirtualGuardImpl(torch::kCUDA).setDevice(device); }};
}

torch::Device choose_device(DeviceKind wanted, int local_rank, const Gpus& gpus) {
  if (wanted == DeviceKind::kCuda && gpus.count == 0) {
    throw ConfigError(
        "training.device is cuda, but this build or machine has no usable CUDA device; use cpu or auto, or build "
        "with the cuda preset");
  }
  if (wanted == DeviceKind::kCpu || gpus.count == 0) return torch::kCPU;
  if (local_rank >= gpus.count) {
    throw ConfigError("this machine has " + std::to_string(gpus.count) + " GPUs, but local rank " +
                      std::to_string(local_rank) + " needs one of its own: start at most one rank a GPU");
  }
  const torch::Device device(torch::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
  gpus.select(device);
  return device;
}

void set_threads(const Config& config, const Launch& launch) {
  int64_t threads = config.training.num_threads;
  const int64_t share = std::max<int64_t>(1, allowed_cores() / launch.local_world_size);
  if (threads == 0) threads = threads_of_environment().value_or(share);
  at::set_num_threads(static_cast<int>(threads));
  if (threads > 1) share_cores();  // a single one waits for nobody
}

void warn_of_budget(const Config& config, const Dataset& dataset, const TrainingSampler& sampler) {
  // Muennighoff et al. 2023, "Scaling Data-Constrained Language Models": up to about four epochs, repeated text is
  // worth nearly what new text is.
  constexpr double kManyPasses = 4;
  const int64_t steps = config.training.max_steps;
  if (config.schedule.warmup_steps > steps) {
    log_warning(
        formatted("schedule.warmup_steps is %ld, more than training.max_steps (%ld): the learning rate never "
                  "reaches optimizer.lr",
                  config.schedule.warmup_steps, steps));
  }
  std::string passes;
  for (size_t d = 0; d < dataset.domains.size(); ++d) {
    const double count = sampler.epoch(steps * *config.training.global_batch_size, static_cast<int64_t>(d));
    if (count <= kManyPasses) continue;
    passes += (passes.empty() ? "" : ", ") + formatted("%s %.1f times", dataset.domains[d].name.c_str(), count);
  }
  if (passes.empty()) return;
  log_info("by step " + std::to_string(steps) + " the run has read " + passes +
           ": beyond about four passes, repeated text teaches little");
}

torch::ScalarType compute_type(const Config& config) {
  switch (config.training.precision) {
    case Precision::kFp32:
      return torch::kFloat32;
    case Precision::kBf16:
      return torch::kBFloat16;
    case Precision::kFp64:
      return torch::kFloat64;
  }
  return torch::kFloat32;
}

Config with_vocabulary(Config config, int64_t tokenizer_vocab_size) {
  config.model.vocab_size.follow(tokenizer_vocab_size);
  return config;
}

void place_model(Transformer& model, const Config& config, torch::Device device) {
  model->to(device);
  if (config.training.precision == Precision::kFp64) model->to(torch::kFloat64);
  model->set_compute_type(compute_type(config));
}

Transformer build_model(const Config& config, torch::Device device, std::optional<ExpertRange> experts) {
  Transformer model(config, experts);
  model->initialise(static_cast<uint64_t>(config.run.seed));
  place_model(model, config, device);
  return model;
}

NamedTensors named_parameters_of(Transformer& model) {
  NamedTensors parameters;
  for (const auto& item : model->named_parameters()) parameters.emplace_back(item.key(), item.value());
  return parameters;
}

TrainedParameters trained_parameters_of(Transformer& model) {
  const torch::NoGradGuard no_grad;
  TrainedParameters parameters;
  for (auto& [name, parameter] : named_parameters_of(model)) {
    torch::Tensor master = parameter;
    if (parameter.scalar_type() != model->compute_type() && name.ends_with("_proj")) {
      master = parameter.detach().clone().requires_grad_();
      parameter.set_data(parameter.to(model->compute_type()));
    }
    parameters.push_back({name, parameter, master});
  }
  return parameters;
}

NamedTensors named_tensors_of(Transformer& model) {
  NamedTensors tensors = named_parameters_of(model);
  for (const auto& item : model->named_buffers()) tensors.emplace_back(item.key(), item.value());
  return tensors;
}

void seed_forward_pass(int64_t seed, int64_t step, int64_t micro_batch) {
  torch::manual_seed(random_word(static_cast<uint64_t>(seed), RandomPurpose::kForward,
                                 {static_cast<uint64_t>(step), static_cast<uint64_t>(micro_batch)}));
}

BatchTensors to_tensors(const TokenBatch& batch, torch::Device device) {
  const torch::Tensor tokens = torch::from_blob(const_cast<int32_t*>(batch.tokens.data()),
                                                {batch.num_sequences, batch.seq_length + 1}, torch::kInt32)
                                   .to(torch::kInt64);
  const torch::Tensor on_device = device.is_cpu() ? tokens : tokens.pin_memory().to(device, /*non_blocking=*/true);
  torch::Tensor targets = on_device.narrow(1, 1, batch.seq_length).flatten();
  if (batch.repeated_targets > 0) {
    targets = targets.clone();  // flattened, a single sequence is still a view of the inputs
    targets.narrow(0, (batch.num_sequences - 1) * batch.seq_length, batch.repeated_targets).fill_(-1);
  }
  return {on_device.narrow(1, 0, batch.seq_length), targets, batch.num_sequences};
}

}  // namespace switchyard
