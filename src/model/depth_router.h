// Mixture of Depths (Raposo et al. 2024): which tokens pass through a block, and how its result reaches them.
// Legend: B batch, S sequence, D hidden, C tokens of a sequence that are taken.
#pragma once

#include "config/config.h"
#include "ops/torch.h"

namespace switchyard {

// What the router of one block said and decided. Losses and metrics are functions of it.
struct DepthOutput {
  torch::Tensor logits;            // [B, S] float32 (float64 in float64 models): r, differentiable
  torch::Tensor passed;            // [B, S] bool, the tokens that went through the block
  torch::Tensor predictor_logits;  // [B, S] as logits; differentiable in the predictor's parameters only
  torch::Tensor rows;              // [B * C] int64, which token of [B * S] each row inside the block is
  int64_t layer = 0;               // which block of the model this is
};

// C tokens of each sequence: in training and generation those that pass, earlier ones first. In evaluation C is S,
// those that pass stand in front, and the others don't count: behind all that do, causal attention hides them.
struct DepthSelection {
  torch::Tensor places;   // [B, C] int64, place in x's sequence
  torch::Tensor rows;     // [B * C] int64, the same in x flattened to [B * S, D]
  torch::Tensor weights;  // [B * C] r of these tokens, differentiable
  torch::Tensor active;   // [B * C] bool, whether the token passes; undefined: all do
  bool empty() const { return rows.size(0) == 0; }
};

class DepthRouterImpl : public torch::nn::Module {
 public:
  DepthRouterImpl(const MixtureOfDepthsConfig& config, int64_t hidden_size, int64_t layer);

  struct Output {
    DepthOutput output;
    DepthSelection selection;
  };
  // Scores every token of x [B, S, D] by r = w x (section 3.4; the raw product, as there) and takes
  //   in training: the ceil(capacity_factor * S) tokens of each sequence with the largest r, of equal ones the earlier;
  //   in evaluation: those for which the predictor's logit v x + b is above 0 (section 3.5), a decision on x alone;
  //   when `incremental` (generation): the same; B must be 1, and the number of tokens is read on the host.
  // Scores are in float32 (float64 in float64 models). Throws c10::ValueError when incremental with B > 1.
  // Collectives: none.
  Output forward(const torch::Tensor& x, bool incremental);

 private:
  DepthSelection select(const DepthOutput& output, bool incremental) const;

  double capacity_factor_;
  int64_t layer_;
  torch::Tensor weight_;            // [1, D] w
  torch::Tensor predictor_weight_;  // [1, D] v
  torch::Tensor predictor_bias_;    // [1] b, starts at zero
};
TORCH_MODULE(DepthRouter);

// The number of tokens of a sequence that pass in training: ceil(capacity_factor * S), at least 1.
int64_t depth_capacity(int64_t sequence, double capacity_factor);

// The selected rows of x [B, S, D], which may be flat already -> [B, C, D]. Differentiable.
torch::Tensor take_selected(const torch::Tensor& x, const DepthSelection& selection);
// The selected entries of a value per token [B * S] -> [B * C].
torch::Tensor take_per_token(const torch::Tensor& values, const DepthSelection& selection);

// x with r * f added to the selected tokens that count (eq. 1): x' = x + r f; the others stay as they are, bit for bit.
// x [B, S, D]; taken = take_selected(x); f [B, C, D] what the block adds to taken. Differentiable in all of them and r.
torch::Tensor add_to_selected(const torch::Tensor& x, const DepthSelection& selection, const torch::Tensor& taken,
                              const torch::Tensor& f);

}  // namespace switchyard
