// Which experts may be chosen, and which choices stay: parts of top-k routing without gradients.
// Legend: T tokens, E experts, G groups, K choices per token.
#pragma once

#include "config/config.h"
#include "ops/torch.h"

namespace switchyard {

// Group-limited selection: scores [T, E], of which the experts outside a token's `top_groups` best groups become minus
// infinity. Group g holds the E / G neighbours from g E / G on and is as good as its best score (kMax; DeepSeek-V2,
// section 2.2.2) or the sum of its best two (kTopTwoSum; DeepSeek-V3, section 2.1.2). G divides E; ties go to the lower
// group. Returns [T, E] without gradients. Collectives: none.
torch::Tensor limit_to_groups(const torch::Tensor& scores, int64_t num_groups, int64_t top_groups,
                              GroupScore group_score);

// GShard's second expert (Lepikhin et al. 2020, algorithm 1): it stays with probability min(1, 2 w_2), where the two
// weights sum to one. weights [T, 2], of any sum. Draws T numbers from ATen's default generator. Returns [T, 2] bool,
// the first column all true. Collectives: none.
torch::Tensor keep_second_at_random(const torch::Tensor& weights);

}  // namespace switchyard
