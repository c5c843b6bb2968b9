// moe.router.error competitive: the experts of the last layer predict alone, and the model is their mixture.
#include "model/accounting.h"
#include "tests/support/models.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

Config competing(std::vector<std::string> overrides = {}) {
  overrides.insert(overrides.begin(), {"moe.router={type: soft_mixture, error: competitive}", "moe.top_k=4"});
  return tiny_moe_config(overrides);
}

// Everything that changes what an expert's output goes through on its way to the loss.
const std::vector<std::string> kEverything = {
    "model.post_norm=true",   "moe.num_shared_experts=1", "moe.dense_residual=true",       "model.logit_softcap=3",
    "model.logit_scale=0.75", "model.bias=true",          "model.normalization=layer_norm"};

// The model whose last layer has only expert `i` and a gate that knows nothing: the others' results are zero, and its
// own is E times as large.
Tensor hidden_of_expert(const Config& config, int64_t i, const Tensor& tokens) {
  Transformer model = make_model(config);
  const torch::NoGradGuard no_grad;
  parameter_of(*model, "layers.1.moe.router.weight").zero_();
  Tensor down = parameter_of(*model, "layers.1.moe.experts.down_proj");
  for (int64_t e = 0; e < 4; ++e) down[e].mul_(e == i ? 4 : 0);
  return model->forward(tokens).hidden;
}

TEST(CompetingExperts, AnAlternativeIsTheModelWithThatExpertAlone) {
  for (const bool everything : {false, true}) {
    auto keys = everything ? kEverything : std::vector<std::string>();
    if (everything) keys.erase(std::find(keys.begin(), keys.end(), "model.bias=true"));  // biases are not scaled
    const Config config = competing(keys);
    Transformer model = make_model(config);
    const Tensor tokens = random_tokens(config, 2, 5);
    const ModelOutput output = model->forward(tokens);
    ASSERT_EQ(output.alternatives.sizes(), (std::vector<int64_t>{4, 10, 8}));
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(close(output.alternatives[i], hidden_of_expert(config, i, tokens))) << i;
    }
  }
}

TEST(CompetingExperts, HiddenIsTheBlendOfTheCooperativeModel) {
  const Tensor tokens = random_tokens(competing(), 2, 5);
  auto keys = kEverything;
  Transformer alone = make_model(competing(keys));
  keys.emplace_back("moe.router.error=cooperative");
  Transformer blended = make_model(competing(keys));
  const ModelOutput expected = blended->forward(tokens);
  EXPECT_FALSE(expected.alternatives.defined());
  EXPECT_TRUE(close(alone->forward(tokens).hidden, expected.hidden));
}

TEST(CompetingExperts, GradientsOfTheWholeModelByCentralDifferences) {
  const Config config = competing(kEverything);
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 4);
  const Tensor targets = tokens.roll(-1, 1).flatten();
  EXPECT_TRUE(gradients_match([&] { return model->language_model_loss(model->forward(tokens), targets); },
                              leaves_of(*model), {.samples = 4}));
}

TEST(CompetingExperts, LossAndGenerationAreOfTheMixture) {
  const Config config = competing(kEverything);
  Transformer model = make_model(config);
  model->eval();
  const torch::NoGradGuard no_grad;
  const Tensor tokens = random_tokens(config, 1, 6);
  const ModelOutput output = model->forward(tokens);
  const Tensor gate = torch::softmax(output.routers.back().logits, -1);  // [T, E]
  Tensor mixture = torch::zeros({6, 11}, kF64);
  for (int64_t i = 0; i < 4; ++i) {
    mixture += gate.select(1, i).unsqueeze(1) * torch::softmax(model->logits(output.alternatives[i]), -1);
  }
  const Tensor targets = random_integers(11, {6}, 9);
  const Tensor expected = -mixture.log().gather(1, targets.unsqueeze(1)).mean();
  EXPECT_TRUE(close(model->language_model_loss(output, targets), expected));
  KvCache cache = model->make_cache(1, 6);
  for (int64_t t = 0; t < 6; ++t) {
    const Tensor logits = model->next_token_logits(model->forward(tokens.narrow(1, t, 1), &cache));
    EXPECT_TRUE(close(torch::softmax(logits, 0), mixture[t])) << t;
  }
}

TEST(CompetingExperts, OnlyTheLastLayerCompetes) {
  const Config config = competing({"model.num_layers=3", "moe.layer_freq=[1, 0, 1]"});
  const ModelOutput output = make_model(config)->forward(random_tokens(config, 1, 3));
  EXPECT_EQ(output.routers.size(), 2U);
  EXPECT_EQ(output.alternatives.size(0), 4);
}

}  // namespace
}  // namespace switchyard::test
