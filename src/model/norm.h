// The normalisation that model.normalization names.
#pragma once

#include <string>

#include "config/config.h"
#include "ops/torch.h"

namespace switchyard {

// RMSNorm (Zhang and Sennrich 2019, eq. 4) or LayerNorm, (x - mean) / sqrt(variance + eps) * weight + bias (Ba et al.
// 2016), over the last dimension. The parameters belong to the module that has the norm: `name` [width] and, for
// LayerNorm, `name`_bias [width].
class Norm {
 public:
  Norm() = default;  // none: what goes in comes out
  Norm(torch::nn::Module& owner, const std::string& name, int64_t width, const ModelConfig& config);

  // x [..., width] -> the same shape and type; computed in float32 (float64 for float64). Collectives: none.
  torch::Tensor operator()(const torch::Tensor& x) const;

 private:
  double eps_ = 0;
  torch::Tensor weight_;  // undefined: none
  torch::Tensor bias_;    // undefined: RMSNorm
};

}  // namespace switchyard
