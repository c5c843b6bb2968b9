#include "train/place_experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "tests/support/whole_models.h"
#include "train/run_state.h"

namespace switchyard::test::place_experts_test {
namespace {

using testing::HasSubstr;
using torch::Tensor;

// 8 experts in groups of two where there are any: whole pairs move, and experts within them.
const ExpertOrdering kOrder = {5, 4, 2, 3, 0, 1, 7, 6};

Config config_of(const std::vector<std::string>& router) {
  std::vector<std::string> overrides = {"moe.num_experts=8", "model.bias=true", "training.seq_length=12"};
  overrides.insert(overrides.end(), router.begin(), router.end());
  return tiny_moe_config(overrides);
}

// A model whose learned state is not at its start, with every tensor as its own first moment.
Checkpoint checkpoint_of(Transformer& model) {
  const torch::NoGradGuard no_grad;
  uint64_t seed = 20;
  for (auto& buffer : model->named_buffers()) {
    buffer.value().copy_(0.1 * random_tensor(buffer.value().sizes(), seed++).abs());
  }
  Checkpoint checkpoint;
  for (const auto& [name, tensor] : named_tensors_of(model)) checkpoint.model[name] = tensor.detach().clone();
  for (const auto& [name, tensor] : named_parameters_of(model)) {
    checkpoint.optimizer[name + ".exp_avg"] = tensor.detach().clone();
    checkpoint.optimizer[name + ".exp_avg_sq"] = tensor.detach().square();
  }
  checkpoint.trainer["steps_since_used"] = Json::array();
  for (int layer = 0; layer < 2; ++layer) checkpoint.trainer["steps_since_used"].push_back({0, 1, 2, 3, 4, 5, 6, 7});
  return checkpoint;
}

class PlacedRouters : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(PlacedRouters, ComputeWhatTheyDid) {
  const Config config = config_of(GetParam());
  Transformer model = make_model(config);
  Checkpoint checkpoint = checkpoint_of(model);
  const TensorMap before = checkpoint.model;
  model->eval();
  const Tensor tokens = random_tokens(config, 2, 12);
  const Tensor expected = logits_of(model, tokens);

  permute_experts(checkpoint, config, {{0, kOrder}, {1, kOrder}});
  load_tensors(checkpoint.model, whole_pieces(named_tensors_of(model)), /*partial=*/false, "test");
  EXPECT_TRUE(close(logits_of(model, tokens), expected));
  // Something did move, and the moments with it.
  const std::string experts = "layers.1.moe.experts.gate_up_proj";
  for (size_t place = 0; place < kOrder.size(); ++place) {
    EXPECT_TRUE(
        identical(checkpoint.model.at(experts)[static_cast<int64_t>(place)], before.at(experts)[kOrder[place]]));
  }
  for (const auto& [name, parameter] : named_parameters_of(model)) {
    EXPECT_TRUE(identical(checkpoint.optimizer.at(name + ".exp_avg"), checkpoint.model.at(name))) << name;
    EXPECT_TRUE(identical(checkpoint.optimizer.at(name + ".exp_avg_sq"), checkpoint.model.at(name).square())) << name;
  }
  EXPECT_EQ(checkpoint.trainer["steps_since_used"][1], Json(kOrder));
}

INSTANTIATE_TEST_SUITE_P(
    EveryRouterThatLearns, PlacedRouters,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"moe.num_shared_experts=1"},
                    std::vector<std::string>{"moe.router.score=sigmoid", "moe.router.expert_bias=true"},
                    std::vector<std::string>{"moe.router.num_groups=4", "moe.router.top_groups=2"},
                    std::vector<std::string>{"moe.router.null_experts=8"},
                    std::vector<std::string>{"moe.router.type=switch", "moe.top_k=1"},
                    std::vector<std::string>{"moe.router.type=noisy_top_k", "moe.router.init_scale=1"},
                    std::vector<std::string>{"moe.router.type=hierarchical", "moe.router.num_groups=4",
                                             "moe.router.top_groups=2"},
                    std::vector<std::string>{"moe.router.type=expert_choice"},
                    std::vector<std::string>{"moe.router.type=threshold"},
                    std::vector<std::string>{"moe.router.type=sinkhorn"},
                    std::vector<std::string>{"moe.router.type=quantile"}));

TEST(PlaceExperts, OneLayerOfTwo) {
  const Config config = config_of({});
  Transformer model = make_model(config);
  Checkpoint checkpoint = checkpoint_of(model);
  const TensorMap before = checkpoint.model;
  permute_experts(checkpoint, config, {{1, kOrder}});
  EXPECT_TRUE(identical(checkpoint.model.at("layers.0.moe.router.weight"), before.at("layers.0.moe.router.weight")));
  EXPECT_FALSE(identical(checkpoint.model.at("layers.1.moe.router.weight"), before.at("layers.1.moe.router.weight")));
  EXPECT_EQ(checkpoint.trainer["steps_since_used"][0], Json({0, 1, 2, 3, 4, 5, 6, 7}));
}

template <class Action>
void expect_error(const Action& action, const std::string& message) {
  try {
    action();
    FAIL() << message;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(PlaceExperts, LeavesNothingBehindUnnoticed) {
  const Config config = config_of({});
  Checkpoint checkpoint;
  checkpoint.model["layers.0.moe.router.novelty"] = torch::zeros({8});
  expect_error([&] { permute_experts(checkpoint, config, {{0, kOrder}}); }, "'layers.0.moe.router.novelty'");
  checkpoint.model = {{"layers.0.moe.router.weight", torch::zeros({7, 8})}};
  expect_error([&] { permute_experts(checkpoint, config, {{0, kOrder}}); }, "should have 8 rows");
  checkpoint.model = {};
  checkpoint.trainer["steps_since_used"] = {{1, 2, 3}};
  expect_error([&] { permute_experts(checkpoint, config, {{0, kOrder}}); }, "trainer.json");
}

RoutingTrace example_trace() {
  RoutingTrace trace;
  trace.num_experts = 8;
  trace.tokens = 20;
  trace.layers[0] = {{{0, 4}, 10}, {{1, 5}, 10}};
  trace.layers[1] = {{{0, 1}, 10}, {{2, 7}, 10}};
  return trace;
}

TEST(PlaceExperts, ByATrace) {
  const Config config = config_of({});
  const Placements placements = choose_placements(example_trace(), config, 4);
  EXPECT_THAT(placements.at(0), testing::ElementsAre(0, 4, 1, 5, 2, 3, 6, 7));
  const PlacementChange change = change_of_layer(example_trace(), 0, placements, config, 4);
  EXPECT_DOUBLE_EQ(change.before.ranks_per_token, 2);
  EXPECT_DOUBLE_EQ(change.after.ranks_per_token, 1);
  // Three in four of 8 values of 4 bytes leave, four times, for each rank or each choice of a token.
  EXPECT_DOUBLE_EQ(change.merged_before, 2 * 4 * 0.75 * 32);
  EXPECT_DOUBLE_EQ(change.merged_after, 1 * 4 * 0.75 * 32);
  EXPECT_DOUBLE_EQ(change.unmerged, 2 * 4 * 0.75 * 32);
  // Half of the tokens of layer 1 were on one rank already.
  const PlacementChange all = change_of_all(example_trace(), placements, config, 4);
  EXPECT_DOUBLE_EQ(all.before.ranks_per_token, (2 + 1.5) / 2);
  EXPECT_DOUBLE_EQ(all.after.ranks_per_token, 1);
  EXPECT_DOUBLE_EQ(all.unmerged, 2 * change.unmerged);
}

TEST(PlaceExperts, RefusesWhatCannotBePlaced) {
  const auto refuse = [](const std::vector<std::string>& router, int64_t ranks, const std::string& message) {
    expect_error([&] { choose_placements(example_trace(), config_of(router), ranks); }, message);
  };
  refuse({"moe.router.type=hash"}, 2, "a hash router computes the experts of a token from its id");
  refuse({"moe.router.type=random"}, 2, "a random router");
  refuse({"moe.router.type=soft_moe"}, 2, "a soft_moe router");
  refuse({"moe.router.type=soft_mixture", "moe.top_k=8"}, 2, "a soft_mixture router");
  refuse({}, 3, "3 ranks do not divide 8 experts");
  refuse({"moe.num_experts=4"}, 2, "the trace is of a model with 8 experts, this one has 4");
  refuse({"moe.first_k_dense=1"}, 2, "layer 0, which has no experts in this model");
}

}  // namespace
}  // namespace switchyard::test::place_experts_test
