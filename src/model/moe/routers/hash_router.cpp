#include "model/moe/routers/hash_router.h"

#include "base/random.h"
#include "model/moe/routers/fixed_routing.h"

namespace switchyard {

using torch::Tensor;

namespace {

// Those of the random router are not the hash router's of any layer.
uint64_t key_of(int64_t layer, bool by_place) {
  return mix_bits(by_place ? ~static_cast<uint64_t>(layer) : static_cast<uint64_t>(layer));
}

}  // namespace

HashRouter::HashRouter(const MoeConfig& config, int64_t layer)
    : num_experts_(config.num_experts),
      top_k_(config.top_k),
      by_place_(config.router.type == RouterType::kRandom),
      key_(key_of(layer, by_place_)) {}

RouterOutput HashRouter::forward(const RouterInput& input) {
  TORCH_CHECK_VALUE(input.token_ids.defined() && (input.positions.defined() || !by_place_),
                    "a hash router needs token ids, a random one positions too");
  Tensor words = input.token_ids;
  if (by_place_) words = torch::bitwise_xor(mix_words(input.positions, key_), words);
  words = mix_words(words, key_);
  return fixed_routing(distinct_experts(words, num_experts_, top_k_), num_experts_, routing_type(input.x));
}

}  // namespace switchyard
