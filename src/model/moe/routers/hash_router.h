// Experts by a fixed hash: of the token (Roller et al. 2021, "Hash Layers For Large Sparse Models", random hash), or of
// the token and its place, the baseline that any learned routing should beat.
#pragma once

#include "model/moe/router.h"

namespace switchyard {

// A token's K distinct experts are a fixed function of the layer and
//   hash:   its id in the vocabulary: the load follows the frequencies of the tokens, as uneven as text is;
//   random: its id and its place in the sequence: uniform over the experts, unrelated to what the token means.
// As neither is a draw from a generator, a pass may run twice, and evaluation and generation see what training saw. The
// weights are 1 / K. No parameters. Probabilities and logits as of fixed_routing(). forward() throws c10::ValueError
// without the token_ids (and positions) that it looks at.
class HashRouter : public Router {
 public:
  HashRouter(const MoeConfig& config, int64_t layer);

  RouterOutput forward(const RouterInput& input) override;

 private:
  int64_t num_experts_;
  int64_t top_k_;
  bool by_place_;
  uint64_t key_;
};

}  // namespace switchyard
