// A training step of a model whose tokens may skip blocks.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/train/one_step.h"
#include "train/generate.h"
#include "train/step.h"

namespace switchyard {
namespace {

using test::kLength;
using test::Outcome;
using test::run_step;
using torch::Tensor;

const std::vector<std::string> kDepth = {"model.num_layers=3", "mixture_of_depths.layer_freq=[0,1,1]",
                                         "mixture_of_depths.capacity_factor=0.5",
                                         "mixture_of_depths.predictor_coeff=0.3"};

TEST(DepthStep, DoesNotDependOnTheSplitIntoMicroBatches) {
  for (const Config& config : {test::tiny_config(kDepth), test::tiny_moe_config(kDepth)}) {
    const Outcome whole = run_step(config, 1);
    for (const int64_t parts : {2, 8}) {
      const Outcome split = run_step(config, parts);
      EXPECT_NEAR(split.losses.total, whole.losses.total, 1e-12 * whole.losses.total);
      EXPECT_NEAR(split.losses.auxiliary_loss("depth_loss"), whole.losses.auxiliary_loss("depth_loss"), 1e-12);
      for (size_t i = 0; i < whole.gradients.size(); ++i) {
        EXPECT_TRUE(torch::allclose(split.gradients[i], whole.gradients[i], 1e-10, 1e-13)) << i;
      }
      EXPECT_TRUE(torch::equal(split.depths.counts, whole.depths.counts));
      EXPECT_EQ(split.depths.num_tokens, whole.depths.num_tokens);
    }
  }
}

TEST(DepthStep, LossesAndCounts) {
  const Outcome outcome = run_step(test::tiny_config(kDepth), 2);
  ASSERT_EQ(outcome.losses.auxiliary.size(), 1U);
  // Two blocks; what is logged is their mean.
  EXPECT_NEAR(outcome.losses.total, outcome.losses.lm + 0.3 * 2 * outcome.losses.auxiliary_loss("depth_loss"), 1e-12);
  EXPECT_GT(outcome.losses.auxiliary_loss("depth_loss"), 0);
  EXPECT_EQ(outcome.depths.layers, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(outcome.depths.num_tokens, 8 * kLength);
  EXPECT_TRUE(torch::equal(outcome.depths.counts.select(1, 0), torch::tensor({24.0, 24.0}, torch::kFloat64)));
  EXPECT_TRUE(outcome.depths.counts.le(8 * kLength).all().item<bool>());
  EXPECT_TRUE(run_step(test::tiny_config(), 2).depths.layers.empty());
}

TEST(DepthStep, ThePredictorLearnsWhatTheRouterDoes) {
  const test::OneThread one_thread;
  const Config config = test::tiny_config(kDepth);
  Transformer model = test::make_model(config, torch::kFloat32);
  TrainingStep step(model, config);
  const Tensor tokens = test::random_tokens(config, 8, kLength + 1);
  const MicroBatchSource source = [&](int64_t) {
    return BatchTensors{tokens.narrow(1, 0, kLength), tokens.narrow(1, 1, kLength).flatten(), 8};
  };
  std::vector<double> losses, accuracies;
  for (int64_t i = 1; i <= 60; ++i) {
    losses.push_back(step.gradients(i, 1, source).auxiliary_loss("depth_loss"));
    accuracies.push_back(step.depths().counts.select(1, 2).mean().item<double>() / double(8 * kLength));
    step.update(0.02);
  }
  // Single steps vary: the router learns, too, and what it does is another task each time.
  const auto mean_of_last = [](const std::vector<double>& values) {
    return std::accumulate(values.end() - 15, values.end(), 0.0) / 15;
  };
  EXPECT_LT(mean_of_last(losses), 0.7 * losses.front());
  EXPECT_GT(mean_of_last(accuracies), 0.7);
  EXPECT_LT(accuracies.front(), 0.6);
}

TEST(DepthStep, GreedyTextWithACacheEqualsTheFullForward) {
  const test::OneThread one_thread;
  for (const Config& config : {test::tiny_config(kDepth), test::tiny_moe_config(kDepth)}) {
    Transformer model = build_model(config, torch::kCPU);
    model->eval();
    const torch::NoGradGuard no_grad;
    std::vector<int32_t> text = {1, 2, 3};
    const auto generated = generate(model, text, /*end_of_text=*/-1, /*num_ids=*/1 << 20,
                                    {.max_new_tokens = 6, .temperature = 0}, [](int32_t) { return true; });
    ASSERT_EQ(generated.size(), 6U);
    for (const int32_t token : generated) {
      const auto tokens = torch::tensor(std::vector<int64_t>(text.begin(), text.end())).unsqueeze(0);
      EXPECT_EQ(model->logits(model->forward(tokens).hidden)[-1].argmax().item<int64_t>(), token);
      text.push_back(token);
    }
  }
}

}  // namespace
}  // namespace switchyard
