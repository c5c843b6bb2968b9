#include "model/moe/routers/hash_router.h"

#include <cmath>
#include <set>

#include "base/random.h"
#include "model/moe/routers/fixed_routing.h"
#include "tests/support/moe_by_tokens.h"

namespace switchyard::test::hash_router_test {
namespace {

std::vector<std::string> with(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), "moe.router=hash");
  return overrides;
}

RouterInput input_of(const torch::Tensor& ids) {
  return {.x = torch::zeros({ids.size(0), 8}, kF64), .token_ids = ids, .positions = torch::arange(ids.size(0))};
}

torch::Tensor all_tokens(int64_t count) { return torch::arange(count, torch::TensorOptions(torch::kInt64)); }

uint32_t naive_mix(uint32_t word, uint64_t key) {
  word ^= static_cast<uint32_t>(mix_bits(key));
  for (int round = 0; round < 2; ++round) word = (word ^ (word >> 16)) * 0x45d9f3bU;
  return word ^ (word >> 16);
}

TEST(MixWords, EqualsTheScalarFunction) {
  const std::vector<int64_t> words = {0, 1, 2, 255, 65536, 123456789, 0x7fffffff, 0xfffffffe, 0xffffffff};
  for (const uint64_t key : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    const auto mixed = mix_words(integers(words), key);
    for (size_t i = 0; i < words.size(); ++i) {
      EXPECT_EQ(mixed[static_cast<int64_t>(i)].item<int64_t>(),
                static_cast<int64_t>(naive_mix(static_cast<uint32_t>(words[i]), key)));
    }
  }
}

TEST(MixWords, EveryBitOfAWordReachesEveryBit) {
  const auto words = random_integers(int64_t{1} << 32, {4096}, 1);
  const auto mixed = mix_words(words, 5);
  for (int64_t bit = 0; bit < 32; ++bit) {
    const auto difference = torch::bitwise_xor(mix_words(torch::bitwise_xor(words, int64_t{1} << bit), 5), mixed);
    for (int64_t reached = 0; reached < 32; ++reached) {
      const auto flipped = torch::bitwise_and(torch::bitwise_right_shift(difference, reached), 1).to(kF64).mean();
      EXPECT_NEAR(flipped.item<double>(), 0.5, 0.35) << bit << " to " << reached;
    }
  }
}

TEST(DistinctExperts, EqualsAListThatIsDrawnFrom) {
  const auto words = random_integers(int64_t{1} << 32, {50}, 1);
  const auto chosen = distinct_experts(words, 6, 4);
  for (int64_t t = 0; t < 50; ++t) {
    std::vector<int64_t> left = {0, 1, 2, 3, 4, 5};
    for (int64_t k = 0; k < 4; ++k) {
      const uint64_t word = naive_mix(static_cast<uint32_t>(words[t].item<int64_t>()), static_cast<uint64_t>(k));
      const auto place = static_cast<std::ptrdiff_t>((word * left.size()) >> 32);
      EXPECT_EQ(chosen[t][k].item<int64_t>(), left[static_cast<size_t>(place)]);
      left.erase(left.begin() + place);
    }
  }
}

TEST(DistinctExperts, EveryOrderedPairIsAsProbable) {
  const auto chosen = distinct_experts(mix_words(all_tokens(12000), 3), 4, 2);
  const auto counts = torch::bincount(chosen.select(1, 0) * 4 + chosen.select(1, 1), {}, 16).view({4, 4});
  EXPECT_TRUE(counts.diagonal().eq(0).all().item<bool>());
  // 12 pairs of 1000 each: chi-square with 11 degrees of freedom is below 40 but once in 30,000 draws.
  const auto off = (counts.to(kF64) - 1000).square() / 1000;
  EXPECT_LT((off.sum() - off.diagonal().sum()).item<double>(), 40);
}

TEST(DistinctExperts, AllOfThemAndTooMany) {
  const auto chosen = distinct_experts(all_tokens(9), 5, 5);
  EXPECT_TRUE(identical(std::get<0>(chosen.sort(1)), all_tokens(5).expand({9, 5}).contiguous()));
  EXPECT_THROW(distinct_experts(all_tokens(9), 5, 6), c10::ValueError);
}

TEST(HashRouter, ATokenAlwaysHasTheSameExperts) {
  const auto router = random_router(with({}), 8);
  const auto ids = integers({3, 7, 3, 0, 7, 3});
  const auto routing = router->forward(input_of(ids));
  EXPECT_TRUE(identical(routing.expert_ids[0], routing.expert_ids[2]));
  EXPECT_TRUE(identical(routing.expert_ids[0], routing.expert_ids[5]));
  EXPECT_TRUE(identical(routing.expert_ids[1], routing.expert_ids[4]));
  router->eval();
  RouterInput later = input_of(ids);
  later.positions = later.positions + 100;
  later.incremental = true;
  EXPECT_TRUE(identical(router->forward(later).expert_ids, routing.expert_ids));
}

TEST(HashRouter, LayersDiffer) {
  const auto ids = input_of(all_tokens(1000));
  const auto first = random_router(with({"moe.top_k=1"}), 8, 0)->forward(ids).expert_ids;
  const auto second = random_router(with({"moe.top_k=1"}), 8, 1)->forward(ids).expert_ids;
  EXPECT_NEAR(first.eq(second).to(kF64).mean().item<double>(), 0.25, 0.06);
}

TEST(HashRouter, ThisAssignmentIsPartOfTheFormat) {
  // A checkpoint's experts are trained for it: a change of the hash would break every such model.
  const auto routing = random_router(with({"moe.num_experts=8"}), 8, 2)->forward(input_of(all_tokens(6)));
  std::vector<int64_t> expected;
  for (uint32_t id = 0; id < 6; ++id) {
    const uint32_t word = naive_mix(id, mix_bits(2));
    const int64_t first = (static_cast<int64_t>(naive_mix(word, 0)) * 8) >> 32;
    const int64_t second = (static_cast<int64_t>(naive_mix(word, 1)) * 7) >> 32;
    expected.insert(expected.end(), {first, second + (second >= first ? 1 : 0)});
  }
  EXPECT_TRUE(identical(routing.expert_ids, integers(expected).view({6, 2})));
}

TEST(HashRouter, SharesAndLogitsByHand) {
  const auto routing = random_router(with({}), 8)->forward(input_of(integers({1})));
  EXPECT_TRUE(close(routing.weights, doubles({0.5, 0.5}).view({1, 2})));
  const auto shares = torch::zeros({1, 4}, kF64).scatter_(1, routing.expert_ids, 0.5);
  EXPECT_TRUE(identical(routing.probabilities, shares));
  EXPECT_TRUE(close(torch::softmax(routing.logits, -1), shares));
  EXPECT_LT(torch::logsumexp(routing.logits, -1).abs().item<double>(), 1e-12);
  EXPECT_FALSE(routing.weights.requires_grad() || routing.logits.requires_grad());
  EXPECT_EQ(random_router(with({}), 8)
                ->forward({.x = torch::zeros({1, 8}, kBf16), .token_ids = integers({1})})
                .weights.scalar_type(),
            kF32);
}

TEST(HashRouter, HasNoParametersAndNeedsTokens) {
  const auto router = random_router(with({}), 8);
  EXPECT_TRUE(router->parameters().empty());
  EXPECT_THROW(router->forward({.x = torch::zeros({1, 8}, kF64)}), c10::ValueError);
}

TEST(HashRouter, EqualTokensAllGoToTheSameExperts) {
  const auto routing = random_router(with({}), 8)->forward(input_of(torch::full({9}, 5)));
  EXPECT_EQ(tokens_per_expert(routing).eq(9).sum().item<int64_t>(), 2);
}

TEST(HashRouter, LayersByHashAndByPlace) {
  for (const std::string type : {"moe.router=hash", "moe.router=random"}) {
    expect_layer_by_tokens(random_moe_layer({type}), random_input(2, 9));
    expect_layer_by_tokens(random_moe_layer({type, "moe.top_k=1", "moe.num_shared_experts=1"}), random_input(2, 9));
    expect_layer_by_tokens(random_moe_layer({type, "moe.num_experts=7", "moe.top_k=3"}), random_input(2, 9), 0.5);
    expect_gradients_of_layer({type});
    MoeLayer layer = random_moe_layer({type});
    LocalDispatcher dispatcher;
    EXPECT_EQ(layer->forward(random_input(1, 0), dispatcher, std::nullopt).y.sizes(), torch::IntArrayRef({0, 8}));
  }
}

}  // namespace
}  // namespace switchyard::test::hash_router_test
