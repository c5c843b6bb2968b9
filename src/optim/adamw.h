// AdamW with clipping by the global norm folded into the update.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "ops/torch.h"

namespace switchyard {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

// Whether weight decay applies: to matrices (Loshchilov and Hutter 2019, with the usual exception of norms). Experts'
// biases are stacked, but no matrices.
bool is_decayed(const std::string& name, const torch::Tensor& parameter);

// The L2 norm over all elements of all tensors, a scalar in float32 (float64 of float64 tensors); zero of none. On the
// CPU the sum does not depend on the number of threads.
torch::Tensor joint_norm(const std::vector<torch::Tensor>& tensors);

// What a parameter's two moments are called in state(): "<name>.exp_avg", "<name>.exp_avg_sq".
std::array<std::string, 2> moment_names(const std::string& name);

class AdamW {
 public:
  // `parameters` keep their names. Moments are float32 (the parameter's type), zero.
  AdamW(NamedTensors parameters, const OptimizerConfig& config);
  // The same for what need not be whole parameters: decayed[i] says whether parameter i is decayed. copies[i], where it
  // is defined, is a bfloat16 tensor of the same shape that gets parameter i, rounded, with every update.
  AdamW(NamedTensors parameters, std::vector<bool> decayed, const OptimizerConfig& config,
        std::vector<torch::Tensor> copies = {});

  // The L2 norm over all gradients, a scalar on the device; gradients that are not there count as zero.
  torch::Tensor gradient_norm() const;
  // One update. Gradients are first divided by max(1, norm / grad_clip) when grad_clip > 0. They may be bfloat16.
  // Parameters without a gradient are left alone. Collectives: none.
  void step(double lr, const torch::Tensor& norm);
  void clear_gradients();
  // The first parameter whose gradient is not finite, or "".
  std::string first_bad_gradient() const;

  int64_t steps() const { return steps_; }
  const NamedTensors& parameters() const { return parameters_; }

  // The moments by name, two a parameter, the tensors themselves (no copy).
  NamedTensors state() const;
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  // Those that have a gradient.
  std::vector<size_t> changing() const;
  void update_on_cpu(double lr, const torch::Tensor& norm);
  // Those parameters that are decayed, or the others.
  void update_with_aten(bool decayed, double lr, const torch::Tensor& norm);

  NamedTensors parameters_;
  std::vector<bool> decayed_;
  std::vector<torch::Tensor> copies_;  // as many as parameters
  std::vector<torch::Tensor> exp_avg_;
  std::vector<torch::Tensor> exp_avg_sq_;
  OptimizerConfig config_;
  int64_t steps_ = 0;
};

}  // namespace switchyard
