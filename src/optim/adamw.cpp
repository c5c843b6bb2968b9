#include "optim/adamw.h"

namespace switchyard {

using torch::Tensor;

namespace {

std::vector<bool> decayed_of(const NamedTensors& parameters) {
  std::vector<bool> decayed;
  for (const auto& [name, parameter] : parameters) decayed.push_back(is_decayed(name, parameter));
  return decayed;
}

}  // namespace

std::array<std::string, 2> moment_names(const std::string& name) { return {name + ".exp_avg", name + ".exp_avg_sq"}; }

bool is_decayed(const std::string& name, const Tensor& parameter) {
  return parameter.dim() >= 2 && !name.ends_with("_bias");
}

AdamW::AdamW(NamedTensors parameters, const OptimizerConfig& config)
    : AdamW(parameters, decayed_of(parameters), config) {}

AdamW::AdamW(NamedTensors parameters, const std::vector<bool>& decayed, const OptimizerConfig& config)
    : parameters_(std::move(parameters)), config_(config) {
  groups_ = {{{}, config.weight_decay}, {{}, 0.0}};
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& parameter = parameters_[i].second;
    exp_avg_.push_back(torch::zeros_like(parameter).detach());
    exp_avg_sq_.push_back(torch::zeros_like(parameter).detach());
    groups_[decayed[i] ? 0 : 1].members.push_back(i);
  }
}

Tensor joint_norm(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return torch::zeros({});
  return torch::stack(at::_foreach_norm(tensors)).norm();
}

Tensor AdamW::gradient_norm() const {
  std::vector<Tensor> gradients;
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return joint_norm(gradients);
}

void AdamW::step(double lr, const Tensor& norm) {
  const torch::NoGradGuard no_grad;
  ++steps_;
  Tensor scale;
  if (config_.grad_clip > 0) scale = (norm.to(torch::kFloat32) / config_.grad_clip).clamp_min(1.0);
  for (const Group& group : groups_) update(group, lr, scale);
}

void AdamW::update(const Group& group, double lr, const Tensor& scale) {
  std::vector<Tensor> parameters;
  std::vector<Tensor> gradients;
  std::vector<Tensor> exp_avg;
  std::vector<Tensor> exp_avg_sq;
  for (const size_t i : group.members) {
    if (!parameters_[i].second.grad().defined()) continue;
    parameters.push_back(parameters_[i].second);
    gradients.push_back(parameters_[i].second.grad());
    exp_avg.push_back(exp_avg_[i]);
    exp_avg_sq.push_back(exp_avg_sq_[i]);
  }
  if (parameters.empty()) return;
  const std::vector<Tensor> steps(parameters.size(),
                                  torch::full({}, static_cast<double>(steps_),
                                              torch::TensorOptions(torch::kFloat32).device(parameters[0].device())));
  at::_fused_adamw_(parameters, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps, lr, config_.beta1,
                    config_.beta2, group.weight_decay, config_.eps, /*amsgrad=*/false, /*maximize=*/false,
                    scale.defined() ? std::optional<Tensor>(scale) : std::nullopt);
}

void AdamW::clear_gradients() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad() = Tensor();
}

std::string AdamW::first_bad_gradient() const {
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined() && !torch::isfinite(parameter.grad()).all().item<bool>()) return name;
  }
  return "";
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto [first, second] = moment_names(parameters_[i].first);
    state.emplace_back(first, exp_avg_[i]);
    state.emplace_back(second, exp_avg_sq_[i]);
  }
  return state;
}

}  // namespace switchyard
