// Trains a small model in this process, and compares what two trainings came to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "tests/support/whole_models.h"
#include "train/run_state.h"
#include "train/step.h"

namespace switchyard::test {

// `count` sequences of a step from `first` on, each a matter of its number alone: [count, S + 1]. No token twice in
// one: equal ones could tie in a router, and rounding would decide.
inline torch::Tensor sequences_of(const Config& config, int64_t step, int64_t first, int64_t count) {
  std::vector<torch::Tensor> sequences;
  for (int64_t i = first; i < first + count; ++i) {
    const auto order = random_tensor({*config.model.vocab_size}, static_cast<uint64_t>(1000 * step + i)).argsort();
    sequences.push_back(order.narrow(0, 0, config.training.seq_length + 1));
  }
  return torch::stack(sequences);
}

class SmallTraining {
 public:
  explicit SmallTraining(const Config& config, std::shared_ptr<World> world = World::alone())
      : config_(config),
        world_(std::move(world)),
        model_(build_model(config, torch::kCPU, experts_here(config, *world_))),
        step_(model_, config, world_) {}

  void steps(int64_t first, int64_t last) {
    const int64_t size = config_.training.micro_batch_size;
    const int64_t length = config_.training.seq_length;
    for (int64_t step = first; step <= last; ++step) {
      const StepLosses losses = step_.gradients(step, *config_.training.global_batch_size / size, [&](int64_t i) {
        const torch::Tensor tokens = sequences_of(config_, step, i * size, size);
        return BatchTensors{tokens.narrow(1, 0, length), tokens.narrow(1, 1, length).flatten(), size};
      });
      note(step, losses);
      step_.update(0.01);
    }
  }

  // Losses, gradient norms and routing of every step, and the logits after the last one.
  TensorMap numbers() {
    model_->eval();
    const torch::Tensor tokens = sequences_of(config_, 1000, 0, 2).narrow(1, 0, config_.training.seq_length);
    numbers_["logits"] = logits_of(model_, tokens).to(kF64);
    return numbers_;
  }
  // Parameters, buffers and moments of a model that one process has.
  TensorMap tensors() {
    TensorMap tensors;
    const CheckpointShare share = owned_share(model_, step_, *world_);
    for (const auto* pieces : {&share.model, &share.optimizer}) {
      for (const TensorPiece& piece : *pieces) tensors[piece.name] = piece.data.detach().clone();
    }
    return tensors;
  }

  std::filesystem::path save(const std::filesystem::path& folder, int64_t step) {
    Checkpoint checkpoint;
    checkpoint.step = step;
    return save_checkpoint_share(folder, checkpoint, owned_share(model_, step_, *world_), 0, world_->saving());
  }
  void load(const std::filesystem::path& path) {
    const Checkpoint checkpoint = load_checkpoint(path);
    load_weights(checkpoint.model, model_, step_, *world_, false, "the model");
    load_tensors(checkpoint.optimizer, optimizer_pieces(step_, *world_), false, "the optimizer");
    step_.optimizer().set_steps(checkpoint.step);
  }
  Transformer& model() { return model_; }

 private:
  void note(int64_t step, const StepLosses& losses) {
    const std::string at = "step " + std::to_string(step) + " ";
    const auto add = [&](const std::string& name, double value) { numbers_[at + name] = doubles({value}); };
    add("loss", losses.total);
    add("lm_loss", losses.lm);
    add("grad_norm", losses.grad_norm);
    for (const auto& [name, value] : losses.auxiliary) add(name, value);
    RoutingTotals routing = step_.routing();
    if (!routing.layers.empty()) {
      int64_t number = 0;
      for (torch::Tensor& sum : routing.observed) {
        if (sum.defined()) sum = sum / static_cast<double>(routing.num_micro_batches);
      }
      for (const torch::Tensor* sum : sums_of(routing)) {
        numbers_[at + "routing " + std::to_string(number++)] = sum->to(kF64).clone();
      }
    }
    if (step_.depths().counts.defined()) numbers_[at + "depths"] = step_.depths().counts.clone();
  }

  Config config_;
  std::shared_ptr<World> world_;
  Transformer model_;
  TrainingStep step_;
  TensorMap numbers_;
};

// What counts as rounding about zero in a tensor of this name: gradients that are zero on paper are 1e-17 here. The
// numbers of a step are of size 1 or more.
inline double size_of_zero(const TensorMap& tensors, const std::string& name) {
  if (name.starts_with("step ")) return 1e-5;
  const auto kind = [](const std::string& text) {
    return text.ends_with(".exp_avg") ? 1 : text.ends_with(".exp_avg_sq") ? 2 : 0;
  };
  double largest = 1e-30;
  for (const auto& [other, tensor] : tensors) {
    if (kind(other) == kind(name) && tensor.numel() > 0) {
      largest = std::max(largest, 1e-5 * tensor.abs().max().item<double>());
    }
  }
  return largest;
}

// Whether two trainings came to the same: nothing is off by more than `tolerance` of the largest value of its tensor
// (0: the same bits). `compared` is increased by the number of values.
inline ::testing::AssertionResult same(const TensorMap& expected, const TensorMap& found, double tolerance,
                                       int64_t& compared) {
  if (expected.empty()) return ::testing::AssertionFailure() << "there is nothing to compare";
  for (const auto& [name, tensor] : expected) {
    const auto other = found.find(name);
    if (other == found.end()) return ::testing::AssertionFailure() << name << " is missing";
    if (other->second.sizes() != tensor.sizes()) return ::testing::AssertionFailure() << name << " has another shape";
    if (!tensor.isfinite().all().item<bool>()) return ::testing::AssertionFailure() << name << " is not finite";
    compared += tensor.numel();
    if (tensor.numel() == 0 || torch::equal(tensor, other->second)) continue;
    const double off = (tensor - other->second).abs().max().item<double>();
    const double size = std::max(tensor.abs().max().item<double>(), size_of_zero(expected, name));
    if (tolerance > 0 && off <= tolerance * size) continue;
    return ::testing::AssertionFailure() << name << " is off by " << off << ", its largest value is " << size;
  }
  if (expected.size() != found.size()) return ::testing::AssertionFailure() << "there are further tensors";
  return ::testing::AssertionSuccess();
}

}  // namespace switchyard::test
