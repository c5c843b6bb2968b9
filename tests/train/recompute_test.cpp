// training.recompute: a step is the same to the bit, and holds less between its passes.
#include <gtest/gtest.h>

#include "tests/support/allocation_meter.h"
#include "tests/train/one_step.h"

namespace switchyard::recompute_test {
namespace {

using test::identical;
using test::Outcome;
using torch::Tensor;

struct Case {
  const char* name;
  std::vector<std::string> overrides;
};
std::ostream& operator<<(std::ostream& out, const Case& test) { return out << test.name; }

// Every router, everything that a block can hold, and what draws random numbers.
const Case kCases[] = {
    {"dense", {}},
    {"dense_biases", {"model.bias=true", "model.normalization=layer_norm", "model.activation=gelu"}},
    {"top_k", {"moe.router.jitter=0.2"}},
    {"global_batch", {"moe.aux_loss_scope=global_batch", "moe.router.jitter=0.2"}},
    {"sequence", {"moe.aux_loss_scope=sequence", "moe.aux_loss_probabilities=chosen"}},
    {"beside",
     {"moe.num_shared_experts=1", "moe.dense_residual=true", "model.bias=true", "model.post_norm=true",
      "model.qk_norm=head"}},
    {"sigmoid_bias", {"moe.router.score=sigmoid", "moe.router.expert_bias=true", "moe.router.bias_rate=0.1"}},
    {"groups", {"moe.router.num_groups=2", "moe.router.top_groups=1"}},
    {"second_expert", {"moe.router.second_expert=random", "moe.capacity_factor=1.0"}},
    {"null_experts", {"moe.router.null_experts=2"}},
    {"switch", {"moe.router.type=switch", "moe.capacity_factor=1.0", "moe.top_k=1"}},
    {"noisy_top_k", {"moe.router.type=noisy_top_k"}},
    {"hierarchical", {"moe.router.type=hierarchical", "moe.router.num_groups=2", "moe.router.top_groups=2"}},
    {"soft_mixture", {"moe.router.type=soft_mixture", "moe.top_k=4"}},
    {"competitive", {"moe.router={type: soft_mixture, error: competitive}", "moe.top_k=4"}},
    {"expert_choice", {"moe.router.type=expert_choice"}},
    {"threshold", {"moe.router.type=threshold"}},
    {"hash", {"moe.router.type=hash"}},
    {"random", {"moe.router.type=random"}},
    {"sinkhorn", {"moe.router.type=sinkhorn"}},
    {"quantile", {"moe.router.type=quantile"}},
    {"soft_moe", {"moe.router.type=soft_moe"}},
    {"depth", {"mixture_of_depths.capacity_factor=0.5", "moe.router.jitter=0.2"}},
    {"latent", {"model.latent_attention={kv_lora_rank: 5, qk_nope_head_dim: 6, qk_rope_head_dim: 4}"}},
    {"limits", {"model.attention_softcap=5", "model.sliding_window=3"}},
};

Config config_of(const Case& test, const std::string& recompute) {
  std::vector<std::string> overrides = {"model.dropout=0.2", "training.seq_length=" + std::to_string(test::kLength),
                                        "training.recompute=" + recompute};
  overrides.insert(overrides.end(), test.overrides.begin(), test.overrides.end());
  return std::string(test.name).starts_with("dense") ? test::tiny_config(overrides) : test::tiny_moe_config(overrides);
}

class RecomputedStep : public testing::TestWithParam<std::tuple<Case, torch::ScalarType>> {};

void expect_same(const Outcome& plain, const Outcome& found) {
  EXPECT_EQ(found.losses.total, plain.losses.total);
  EXPECT_EQ(found.losses.lm, plain.losses.lm);
  EXPECT_EQ(found.losses.grad_norm, plain.losses.grad_norm);
  EXPECT_EQ(found.losses.auxiliary, plain.losses.auxiliary);
  ASSERT_EQ(found.gradients.size(), plain.gradients.size());
  for (size_t i = 0; i < plain.gradients.size(); ++i) {
    EXPECT_TRUE(identical(found.gradients[i], plain.gradients[i])) << i;
  }
  RoutingTotals expected = plain.routing;
  RoutingTotals routing = found.routing;
  EXPECT_EQ(routing.num_tokens, expected.num_tokens);
  if (!expected.layers.empty()) {
    const auto sums = sums_of(expected);
    const auto found_sums = sums_of(routing);
    ASSERT_EQ(sums.size(), found_sums.size());
    for (size_t i = 0; i < sums.size(); ++i) EXPECT_TRUE(identical(*found_sums[i], *sums[i])) << i;
  }
  if (!plain.depths.counts.defined()) return;
  EXPECT_TRUE(identical(found.depths.counts, plain.depths.counts));
}

TEST_P(RecomputedStep, IsTheSameToTheBit) {
  const auto& [test, type] = GetParam();
  for (const int64_t micro_batches : {1, 2}) {
    const Outcome plain = test::run_step(config_of(test, "none"), micro_batches, type);
    const Tensor next = torch::rand({4});
    for (const char* recompute : {"selective", "full"}) {
      SCOPED_TRACE(recompute);
      expect_same(plain, test::run_step(config_of(test, recompute), micro_batches, type));
      EXPECT_TRUE(identical(torch::rand({4}), next));  // the random streams stand where they stood
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RecomputedStep,
                         testing::Combine(testing::ValuesIn(kCases),
                                          testing::Values(torch::kFloat32, torch::kBFloat16)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) +
                                  (std::get<1>(info.param) == torch::kFloat32 ? "_fp32" : "_bf16");
                         });

// Steps with updates: what routers keep between steps, too.
TEST(RecomputedTraining, StateAfterStepsIsTheSame) {
  const test::OneThread one_thread;
  for (const Case& test : kCases) {
    std::vector<Tensor> expected;
    for (const char* recompute : {"none", "selective", "full"}) {
      const Config config = config_of(test, recompute);
      Transformer model = test::make_model(config, test::kF32);
      TrainingStep step(model, config);
      for (int64_t number = 1; number <= 3; ++number) {
        step.gradients(number, 2, [&](int64_t i) {
          const Tensor tokens =
              test::distinct_tokens(config, 4, test::kLength + 1, static_cast<uint64_t>(2 * number + i));
          return BatchTensors{tokens.narrow(1, 0, test::kLength), tokens.narrow(1, 1, test::kLength).flatten(), 4};
        });
        step.update(1e-2);
      }
      std::vector<Tensor> state = model->parameters();
      for (const Tensor& buffer : model->buffers()) state.push_back(buffer);
      if (expected.empty()) expected = state;
      for (size_t i = 0; i < state.size(); ++i) {
        EXPECT_TRUE(identical(state[i], expected[i])) << test.name << ' ' << recompute << ' ' << i;
      }
    }
  }
}

// Bytes that a forward pass leaves for the backward pass.
int64_t bytes_held(const Config& config) {
  test::AllocationMeter& meter = test::AllocationMeter::installed();
  Transformer model = test::make_model(config, test::kF32);
  const Tensor tokens = test::random_tokens(config, 4, config.training.seq_length);
  const int64_t before = meter.live();
  const ModelOutput output = model->forward(tokens);
  return meter.live() - before;
}

TEST(RecomputedTraining, HoldsLessBetweenThePasses) {
  const test::OneThread one_thread;
  const std::vector<std::string> sizes = {"model.hidden_size=32", "model.num_layers=3", "moe.intermediate_size=64",
                                          "training.seq_length=64"};
  const auto config = [&](const std::string& recompute) {
    std::vector<std::string> overrides = sizes;
    overrides.push_back("training.recompute=" + recompute);
    return test::tiny_moe_config(overrides);
  };
  const int64_t none = bytes_held(config("none"));
  const int64_t selective = bytes_held(config("selective"));
  const int64_t full = bytes_held(config("full"));
  // Hidden values of 2 x 64 for each of 2 x 256 rows (a few more where rows are rounded up) in 3 layers.
  const int64_t hidden = 3 * (2 * 256) * (2 * 64) * 4;
  EXPECT_GE(none - selective, hidden);
  EXPECT_LE(none - selective, hidden + hidden / 8);
  // A block's input of 256 x 32, and what its router hands out.
  const int64_t input = 256 * 32 * 4;
  EXPECT_LT(full, 3 * 2 * input + 2 * input);
  EXPECT_LT(full, selective / 3);
}

TEST(RecomputedTraining, EvaluationAndGenerationAreWhatTheyWere) {
  const test::OneThread one_thread;
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> found;
  for (const char* recompute : {"none", "selective", "full"}) {
    const Config config = config_of(kCases[2], recompute);
    Transformer model = test::make_model(config, test::kF32);
    model->eval();
    const Tensor tokens = test::random_tokens(config, 2, 6);
    KvCache cache = model->make_cache(2, 6);
    found.push_back(torch::cat({model->forward(tokens).hidden, model->forward(tokens, &cache).hidden}));
  }
  EXPECT_TRUE(identical(found[1], found[0]));
  EXPECT_TRUE(identical(found[2], found[0]));
}

}  // namespace
}  // namespace switchyard::recompute_test
