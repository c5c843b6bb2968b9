// Which experts took each token, from what a forward pass returned.
// Legend: B sequences, S places, T = B * S tokens, E experts, K experts per token, L MoE layers.
#pragma once

#include <vector>

#include "metrics/placement.h"
#include "model/transformer.h"
#include "ops/torch.h"

namespace switchyard {

struct Routes {
  int64_t layer = 0;         // which block
  int64_t num_experts = 0;   // E
  torch::Tensor expert_ids;  // [T, K] int64, best first
  torch::Tensor weights;     // [T, K] what an expert's output is multiplied with
  torch::Tensor chosen;      // [T, K] bool, false where the entry is no assignment (drops by capacity still count)
};

// One per MoE layer, rows in the order of the tokens also where a block saw only some of them (Mixture of Depths): the
// others have no assignment there. Keeps no graph. Collectives: none.
std::vector<Routes> routes_of(const ModelOutput& output);

// Adds the assignments of these tokens, any device.
void append_choices(const Routes& routes, TokenChoices& choices);

// [T, E] float32, 1 where the expert is chosen. Sums of it are exact up to 2^24 tokens.
torch::Tensor multi_hot(const Routes& routes);
// [T] int64, equal for equal sets of experts (and for others with a chance of 2^-64).
torch::Tensor set_hashes(const Routes& routes);

}  // namespace switchyard
