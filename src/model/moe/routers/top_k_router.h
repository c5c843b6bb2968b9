// Top-k routing and its variants: Switch Transformer (K = 1), GShard, Mixtral, Qwen3-MoE, OLMoE, Grok-1, DeepSeek-V2
// and V3, AdaMoE. Legend: T tokens, D hidden, E experts, K choices per token, N null experts.
#pragma once

#include "model/moe/router.h"

namespace switchyard {

// logits x W^T in float32, scores s = softmax(logits) or sigmoid(logits). The K experts with the largest s are chosen
// and weighted with
//   normalize: false   s_k                     (Switch, OLMoE, DeepSeek-V2)
//   normalize: true    s_k / sum of chosen s   (Mixtral, Qwen3-MoE, GShard; DeepSeek-V3, eqs 13 to 15, with sigmoid)
//   softmax: after     softmax over the K chosen logits (the same value as the line above for softmax scores)
// times `scale` (DeepSeek's routed_scaling_factor). A single choice (K = 1) is never normalised: its weight would be
// the constant 1, and the router would learn nothing from the language-model loss (Switch, eq. 2, uses p).
// RouterOutput::probabilities, of which the losses are made, are s / sum s for either score (DeepSeek-V3, eq. 19).
//
// `jitter` multiplies the router's input by U(1 - jitter, 1 + jitter) in training (Switch, section 2.4).
// `num_groups`: the experts of one token come from its `top_groups` best groups (selection.h).
// `expert_bias`: experts and groups are chosen by s + b, weighted by s; after every step b_e += bias_rate *
//   sign(mean load - load_e) (Wang et al. 2024, arXiv 2408.15664, algorithm 1; DeepSeek-V3, eq. 16). b is the buffer
//   `bias`, zero at first.
// `second_expert: random`: in training the second of two choices is used at random (selection.h); the first one's
//   weight stays what it was.
// `null_experts`: N further logits compete for the K choices; a choice of one is no assignment, with weight 0 and an
//   arbitrary id (Zeng et al. 2024, AdaMoE, arXiv 2406.13233). Weights are made from the scores of all E + N, as if a
//   null expert were one whose output is zero, so that the language-model loss reaches the null logits (through sigmoid
//   scores that are not normalised it does not: there only the budget loss moves them); logits and probabilities are
//   those of the E experts alone, and the losses balance these among each other. smooth_experts is the number of
//   experts of a token in value and K times the probability that is not on null experts in gradient.
class TopKRouter : public Router {
 public:
  TopKRouter(const MoeConfig& config, int64_t hidden_size);

  RouterOutput forward(const RouterInput& input) override;
  // Moves the bias; nothing without `expert_bias`.
  void after_step(const torch::Tensor& tokens_per_expert, const torch::Tensor& observed) override;

 private:
  torch::Tensor log_scores(const torch::Tensor& logits) const;
  bool chooses_by_logits() const;
  torch::Tensor choose(const torch::Tensor& logits, const torch::Tensor& shares) const;
  torch::Tensor weigh(const torch::Tensor& logits, const torch::Tensor& shares, const torch::Tensor& ids) const;
  void leave_out_null_experts(RouterOutput& output, const torch::Tensor& shares) const;

  RouterConfig config_;
  int64_t num_experts_;
  int64_t top_k_;
  torch::Tensor weight_;       // [E, D]
  torch::Tensor null_weight_;  // [N, D], undefined without null experts
  torch::Tensor bias_;         // [E], undefined without expert_bias
};

}  // namespace switchyard
