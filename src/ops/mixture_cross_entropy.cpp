#include "ops/mixture_cross_entropy.h"

#include <vector>

#include "ops/fused.h"
#include "ops/soft_cap.h"

namespace switchyard {

using torch::Tensor;

namespace {

// One expert's logits: hidden [T, D] -> [T, V] in the accumulating type.
Tensor project(const Tensor& hidden, const Tensor& weight, std::optional<double> softcap) {
  const Tensor logits = torch::mm(hidden, weight.to(hidden.scalar_type()).t()).to(accumulate_type(hidden));
  return softcap ? soft_cap(logits, *softcap) : logits;
}

// log p: [E, T].
Tensor log_gate(const Tensor& gate, const Tensor& hidden) {
  return torch::log_softmax(gate.to(accumulate_type(hidden)), -1).t();
}

}  // namespace

Tensor mixture_cross_entropy(const Tensor& hidden, const Tensor& gate, const Tensor& weight, const Tensor& targets,
                             std::optional<double> softcap) {
  TORCH_CHECK_VALUE(hidden.dim() == 3 && hidden.size(2) == weight.size(1) && targets.numel() == hidden.size(1) &&
                        gate.size(0) == hidden.size(1) && gate.size(1) == hidden.size(0),
                    "mixture_cross_entropy: hidden ", hidden.sizes(), ", gate ", gate.sizes(), ", weight ",
                    weight.sizes(), " and targets ", targets.sizes(), " do not fit together");
  const Tensor counted = targets.ge(0);
  const Tensor known = targets.masked_fill(counted.logical_not(), -100);
  std::vector<Tensor> losses;
  for (const Tensor& own : hidden.unbind(0)) {
    losses.push_back(
        torch::cross_entropy_loss(project(own, weight, softcap), known, /*weight=*/{}, at::Reduction::None));
  }
  const Tensor joint = log_gate(gate, hidden) - torch::stack(losses);
  return -(torch::logsumexp(joint, 0) * counted).sum() / counted.sum().clamp_min(1);
}

Tensor mixture_log_probabilities(const Tensor& hidden, const Tensor& gate, const Tensor& weight,
                                 std::optional<double> softcap) {
  const Tensor shares = log_gate(gate, hidden);
  std::vector<Tensor> joint;
  for (int64_t i = 0; i < hidden.size(0); ++i) {
    joint.push_back(shares[i].unsqueeze(1) + torch::log_softmax(project(hidden[i], weight, softcap), -1));
  }
  return torch::logsumexp(torch::stack(joint), 0);
}

}  // namespace switchyard
