// The routers' bias over steps: it sees the whole step, however that is split.
#include <gtest/gtest.h>

#include "tests/support/models.h"
#include "train/step.h"

namespace switchyard::expert_bias_test {
namespace {

using torch::Tensor;

constexpr int64_t kSequences = 8;
constexpr int64_t kLength = 6;
constexpr int64_t kSteps = 5;

Config with_bias(const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all = {"moe.router.score=sigmoid", "moe.router.expert_bias=true",
                                  "moe.router.bias_rate=0.01"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return test::tiny_moe_config(all);
}

// The biases of all layers after some steps over the same 8 sequences in `micro_batches` pieces, in float64.
std::vector<Tensor> biases_after_steps(const Config& config, int64_t micro_batches) {
  const test::OneThread one_thread;
  Transformer model = test::make_model(config);
  TrainingStep step(model, config);
  const Tensor tokens = test::random_tokens(config, kSequences, kLength + 1);
  const int64_t size = kSequences / micro_batches;
  for (int64_t i = 1; i <= kSteps; ++i) {
    step.gradients(i, micro_batches, [&](int64_t index) {
      const Tensor part = tokens.narrow(0, index * size, size);
      return BatchTensors{part.narrow(1, 0, kLength), part.narrow(1, 1, kLength).flatten(), size};
    });
    step.update(1e-3);
  }
  std::vector<Tensor> biases;
  for (const auto& [name, tensor] : named_tensors_of(model)) {
    if (name.ends_with("router.bias")) biases.push_back(tensor.clone());
  }
  return biases;
}

TEST(ExpertBias, DoesNotDependOnTheSplitIntoMicroBatches) {
  const Config config = with_bias();
  const auto whole = biases_after_steps(config, 1);
  ASSERT_EQ(whole.size(), 2U);
  EXPECT_TRUE(whole[0].ne(0).any().item<bool>());
  EXPECT_FALSE(torch::equal(whole[0], whole[1]));
  for (const int64_t micro_batches : {2, 8}) {
    const auto parts = biases_after_steps(config, micro_batches);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(torch::equal(parts[i], whole[i])) << micro_batches;
  }
}

TEST(ExpertBias, StaysAtRateZero) {
  for (const Tensor& bias : biases_after_steps(with_bias({"moe.router.bias_rate=0"}), 1)) {
    EXPECT_TRUE(bias.eq(0).all().item<bool>());
  }
}

TEST(ExpertBias, IsNoParameter) {
  Transformer model = test::make_model(with_bias());
  for (const auto& [name, parameter] : named_parameters_of(model)) EXPECT_FALSE(name.ends_with("router.bias")) << name;
}

}  // namespace
}  // namespace switchyard::expert_bias_test
