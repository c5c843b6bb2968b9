#include "model/norm.h"

#include "ops/fused.h"
#include "ops/rms_norm.h"
#include "ops/step_parts.h"

namespace switchyard {

using torch::Tensor;

Norm::Norm(torch::nn::Module& owner, const std::string& name, int64_t width, const ModelConfig& config)
    : eps_(config.norm_eps), weight_(owner.register_parameter(name, torch::empty({width}))) {
  switch (config.normalization) {
    case Normalization::kRmsNorm:
      break;
    case Normalization::kLayerNorm:
      bias_ = owner.register_parameter(name + "_bias", torch::empty({width}));
  }
}

Tensor Norm::operator()(const Tensor& x) const {
  if (!weight_.defined()) return x;
  const StepPartScope part(StepPart::kNorm);
  if (!bias_.defined()) return rms_norm(x, weight_, eps_);
  const auto type = accumulate_type(x);
  // On the CPU ATen takes both types at once and computes in the wider one.
  const Tensor wide = x.device().is_cpu() ? x : x.to(type);
  return torch::layer_norm(wide, {weight_.size(0)}, weight_.to(type), bias_.to(type), eps_).to(x.scalar_type());
}

}  // namespace switchyard
