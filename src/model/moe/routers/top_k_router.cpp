#include "model/moe/routers/top_k_router.h"

#include "model/moe/routers/selection.h"
#include "ops/normalised_choice.h"
#include "ops/top_k.h"

namespace switchyard {

using torch::Tensor;

TopKRouter::TopKRouter(const MoeConfig& config, int64_t hidden_size)
    : config_(config.router),
      num_experts_(config.num_experts),
      top_k_(config.top_k),
      weight_(register_parameter("weight", torch::empty({config.num_experts, hidden_size}))) {
  if (config_.null_experts > 0) {
    null_weight_ = register_parameter("null_weight", torch::empty({config_.null_experts, hidden_size}));
  }
  if (config_.expert_bias) bias_ = register_buffer("bias", torch::zeros({config.num_experts}));
}

// A softmax of these over any set of experts is their scores over the sum of the set's scores, and can't be 0 / 0.
Tensor TopKRouter::log_scores(const Tensor& logits) const {
  return config_.score == ScoreFunction::kSigmoid ? torch::log_sigmoid(logits) : logits;
}

// Whether the scores are the softmax of the logits, and nothing else decides.
bool TopKRouter::chooses_by_logits() const {
  return config_.score == ScoreFunction::kSoftmax && !bias_.defined() && config_.num_groups <= 1;
}

// The chosen of all experts, null ones included: [T, K], best first.
Tensor TopKRouter::choose(const Tensor& logits, const Tensor& shares) const {
  const torch::NoGradGuard no_grad;
  const bool grouped = config_.num_groups > 1;
  // Scores rise with logits, and logits tell apart what is rounded to the same score. Where scores are added up,
  // float64 does: sigmoids of logits above 17 are 1 in float32.
  Tensor merit = logits;
  if (bias_.defined() || (grouped && config_.group_score == GroupScore::kTopTwoSum)) {
    merit = config_.score == ScoreFunction::kSigmoid ? torch::sigmoid(logits.to(torch::kFloat64)) : shares;
  }
  if (bias_.defined()) merit = merit + bias_;
  if (grouped) merit = limit_to_groups(merit, config_.num_groups, config_.top_groups, config_.group_score);
  return top_k_indices(merit, top_k_);
}

Tensor TopKRouter::weigh(const Tensor& logits, const Tensor& shares, const Tensor& ids) const {
  const bool sigmoid = config_.score == ScoreFunction::kSigmoid;
  const bool normalize = config_.normalize && top_k_ > 1;
  Tensor weights;
  if (config_.softmax == SoftmaxOrder::kAfter || (sigmoid && normalize)) {
    weights = torch::softmax(log_scores(logits.gather(1, ids)), -1);
  } else {
    weights = sigmoid     ? torch::sigmoid(logits.gather(1, ids))
              : normalize ? normalised_choice(shares, ids)
                          : shares.gather(1, ids);
  }
  return config_.scale == 1 ? weights : weights * config_.scale;
}

void TopKRouter::leave_out_null_experts(RouterOutput& output, const Tensor& shares) const {
  output.chosen = output.expert_ids < num_experts_;
  output.expert_ids = output.expert_ids.clamp_max(num_experts_ - 1);
  const Tensor expected = static_cast<double>(top_k_) * shares.narrow(1, 0, num_experts_).sum(-1);
  output.smooth_experts = output.chosen.sum(-1).to(shares.scalar_type()) + (expected - expected.detach());
}

RouterOutput TopKRouter::forward(const RouterInput& input) {
  Tensor wide = input.x.to(weight_.scalar_type());
  if (is_training() && config_.jitter > 0) {
    wide = wide * torch::empty_like(wide).uniform_(1 - config_.jitter, 1 + config_.jitter);
  }
  const bool with_null = null_weight_.defined();
  const Tensor logits = router_logits(wide, with_null ? torch::cat({weight_, null_weight_}) : weight_);  // [T, E + N]
  RouterOutput output;
  output.logits = with_null ? logits.narrow(1, 0, num_experts_) : logits;
  Tensor shares;  // of all that can be chosen
  if (chooses_by_logits() && !with_null) {
    SoftmaxTopK chosen = softmax_top_k(logits, top_k_);
    shares = output.probabilities = chosen.probabilities;
    output.expert_ids = chosen.ids;
    output.counts = chosen.counts;
  } else {
    output.probabilities = torch::softmax(log_scores(output.logits), -1);
    shares = with_null ? torch::softmax(log_scores(logits), -1) : output.probabilities;
    output.expert_ids = choose(logits, shares);
  }
  output.weights = weigh(logits, shares, output.expert_ids);
  if (with_null) leave_out_null_experts(output, shares);
  if (is_training() && config_.second_expert == SecondExpert::kRandom) {
    const Tensor stays = keep_second_at_random(output.weights.detach());
    output.chosen = with_null ? output.chosen.logical_and(stays) : stays;
  }
  if (output.chosen.defined()) output.weights = output.weights.masked_fill(output.chosen.logical_not(), 0);
  return output;
}

void TopKRouter::after_step(const Tensor& tokens_per_expert, const Tensor&) {
  if (!bias_.defined()) return;
  const torch::NoGradGuard no_grad;
  const Tensor direction = torch::sign(tokens_per_expert.mean() - tokens_per_expert);
  bias_.add_(direction.to(bias_.scalar_type()), config_.bias_rate);
}

}  // namespace switchyard
