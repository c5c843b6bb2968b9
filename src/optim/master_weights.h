// Parameters that the model holds in the type that it computes in, and the optimizer in float32.
#pragma once

#include <string>
#include <vector>

#include "ops/torch.h"

namespace switchyard {

// The weights of mixed-precision training (Micikevicius et al. 2018, section 3.1).
struct TrainedParameter {
  std::string name;
  torch::Tensor model;   // what the forward pass reads and the backward pass leaves gradients in
  torch::Tensor master;  // float32 (float64) of the same shape: what is updated and saved; often the same tensor

  bool is_cast() const { return !model.is_same(master); }
};
using TrainedParameters = std::vector<TrainedParameter>;

}  // namespace switchyard
