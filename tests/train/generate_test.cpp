#include "train/generate.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/support/models.h"
#include "train/setup.h"

namespace switchyard {
namespace {

constexpr int64_t kAllIds = 1 << 20;

const torch::Tensor kLogits = torch::log(torch::tensor({0.1, 0.4, 0.2, 0.3}));

std::map<int32_t, int> draw(const SamplingOptions& options, int count) {
  std::map<int32_t, int> drawn;
  for (int i = 0; i < count; ++i) ++drawn[sample_token(kLogits, options, i)];
  return drawn;
}

TEST(SampleToken, ZeroTemperatureTakesTheMostLikelyAndTheLowerIdOfATie) {
  EXPECT_EQ(sample_token(kLogits, {.temperature = 0}, 0), 1);
  EXPECT_EQ(sample_token(torch::tensor({1.0, 3.0, 3.0}), {.temperature = 0}, 0), 1);
}

TEST(SampleToken, FollowsTheProbabilities) {
  const auto drawn = draw({.seed = 5}, 4000);
  EXPECT_NEAR(drawn.at(0), 400, 80);  // four standard deviations are 76
  EXPECT_NEAR(drawn.at(1), 1600, 125);
  EXPECT_NEAR(drawn.at(2), 800, 102);
  EXPECT_NEAR(drawn.at(3), 1200, 116);
}

TEST(SampleToken, TopKAndTopPCutTheTail) {
  EXPECT_EQ(draw({.top_k = 1}, 50).size(), 1U);
  EXPECT_EQ(draw({.top_k = 2}, 200).size(), 2U);
  EXPECT_EQ(draw({.top_p = 0.4}, 50).size(), 1U);    // the first one alone reaches 0.4
  EXPECT_EQ(draw({.top_p = 0.69}, 200).size(), 2U);  // 0.4 + 0.3
  EXPECT_EQ(draw({.top_p = 1.0}, 400).size(), 4U);
}

TEST(SampleToken, IsAFunctionOfSeedAndPosition) {
  EXPECT_EQ(sample_token(kLogits, {.seed = 3}, 7), sample_token(kLogits, {.seed = 3}, 7));
  std::vector<int32_t> one;
  std::vector<int32_t> other;
  for (int i = 0; i < 32; ++i) {
    one.push_back(sample_token(kLogits, {.seed = 1}, i));
    other.push_back(sample_token(kLogits, {.seed = 2}, i));
  }
  EXPECT_NE(one, other);
}

TEST(Generate, GreedyTextWithCacheEqualsTheFullForwardAtEveryStep) {
  const Config config = test::tiny_moe_config();
  const test::OneThread one_thread;
  Transformer model = build_model(config, torch::kCPU);
  model->eval();
  const torch::NoGradGuard no_grad;
  std::vector<int32_t> text = {1, 2, 3};
  const std::vector<int32_t> generated = generate(
      model, text, /*end_of_text=*/-1, kAllIds, {.max_new_tokens = 6, .temperature = 0}, [](int32_t) { return true; });
  ASSERT_EQ(generated.size(), 6U);
  for (const int32_t token : generated) {
    const auto tokens = torch::tensor(std::vector<int64_t>(text.begin(), text.end())).unsqueeze(0);
    const torch::Tensor hidden = model->forward(tokens).hidden;
    EXPECT_EQ(model->logits(hidden)[-1].argmax().item<int64_t>(), token);
    text.push_back(token);
  }
}

TEST(SampleToken, LowTemperaturesAreStillProbabilities) {
  EXPECT_EQ(sample_token(torch::tensor({1e3, 3e3, 2e3}), {.temperature = 1e-310, .seed = 3}, 0), 1);
}

// A vocabulary padded to a round size: ids that the tokenizer does not know must not be drawn, however likely.
TEST(Generate, OnlyIdsThatAreAskedFor) {
  const test::OneThread one_thread;
  Transformer model = build_model(test::tiny_moe_config(), torch::kCPU);
  model->eval();
  for (const double temperature : {0.0, 1.0, 50.0}) {
    const SamplingOptions options{.max_new_tokens = 40, .temperature = temperature};
    for (const int32_t token : generate(model, {1}, -1, 3, options, [](int32_t) { return true; })) EXPECT_LT(token, 3);
  }
}

TEST(Generate, StopsAtTheEndOfTextAndWhenAskedTo) {
  const Config config = test::tiny_moe_config();
  const test::OneThread one_thread;
  Transformer model = build_model(config, torch::kCPU);
  model->eval();
  const SamplingOptions greedy{.max_new_tokens = 5, .temperature = 0};
  const auto all = generate(model, {1}, -1, kAllIds, greedy, [](int32_t) { return true; });
  EXPECT_TRUE(generate(model, {1}, all[0], kAllIds, greedy, [](int32_t) { return true; }).empty());
  EXPECT_EQ(generate(model, {1}, -1, kAllIds, greedy, [](int32_t) { return false; }).size(), 1U);
}

}  // namespace
}  // namespace switchyard
