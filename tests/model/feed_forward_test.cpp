// Feed-forwards, dense and in a mixture, of every activation, with and without biases.
#include "model/feed_forward.h"

#include <cmath>

#include "tests/support/models.h"

namespace switchyard::test::feed_forward_test {
namespace {

using torch::Tensor;

const char* const kNames[] = {"swiglu", "geglu", "gelu", "relu"};

Tensor naive_activation(const Tensor& h, const std::string& name) {
  const auto gelu = [](const Tensor& z) {
    return 0.5 * z * (1 + torch::tanh(std::sqrt(2 / 3.141592653589793) * (z + 0.044715 * z.pow(3))));
  };
  if (name == "relu") return torch::where(h > 0, h, torch::zeros_like(h));
  if (name == "gelu") return gelu(h);
  const auto halves = h.chunk(2);
  return (name == "geglu" ? gelu(halves[0]) : halves[0] * torch::sigmoid(halves[0])) * halves[1];
}

// The feed-forward under `prefix` on one row; `expert` picks one of a stack.
Tensor naive_feed_forward(const torch::nn::Module& module, const std::string& prefix, const std::string& activation,
                          const Tensor& x, std::optional<int64_t> expert = std::nullopt) {
  const auto names = module.named_parameters();
  const auto get = [&](const std::string& name) {
    const Tensor p = names[prefix + name];
    return expert ? p[*expert] : p;
  };
  const bool gated = activation.ends_with("glu");
  const bool bias = names.contains(prefix + "down_bias");
  const std::string up = gated ? "gate_up" : "up";
  Tensor h = torch::mv(get(up + "_proj"), x);
  if (bias) h = h + get(up + "_bias");
  const Tensor y = torch::mv(get("down_proj"), naive_activation(h, activation));
  return bias ? y + get("down_bias") : y;
}

Config config_of(const std::string& activation, bool bias, std::vector<std::string> more = {}) {
  more.push_back("model.activation=" + activation);
  more.push_back(std::string("model.bias=") + (bias ? "true" : "false"));
  return tiny_moe_config(more);
}

template <class Module>
Module filled(Module module) {
  module->to(kF64);
  const torch::NoGradGuard no_grad;
  uint64_t seed = 1;
  for (auto& parameter : module->parameters()) parameter.copy_(0.5 * random_tensor(parameter.sizes(), seed++));
  return module;
}

TEST(FeedForward, EqualsItsFormulas) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  const Tensor x = random_tensor({6, 8}, 20);
  for (const std::string name : kNames) {
    for (const bool bias : {false, true}) {
      const auto layer = filled(FeedForward(config_of(name, bias).model, 1, 5, /*stacked=*/false));
      const Tensor y = FeedForward(layer)->forward(x);
      for (int64_t t = 0; t < 6; ++t) EXPECT_TRUE(close(y[t], naive_feed_forward(*layer, "", name, x[t]))) << name << t;
    }
  }
}

TEST(FeedForward, AMixtureEqualsALoopOverTokens) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  const Tensor x = random_tensor({70, 8}, 20);  // with rows of zeros between the experts
  LocalDispatcher dispatcher;
  for (const std::string name : kNames) {
    for (const bool bias : {false, true}) {
      const Config config = config_of(name, bias, {"moe.num_shared_experts=2", "moe.dense_residual=true"});
      MoeLayer layer = filled(MoeLayer(*config.moe, config.model, 0));
      const auto [y, routing] = layer->forward({.x = x}, dispatcher, std::nullopt);
      for (int64_t t = 0; t < x.size(0); ++t) {
        Tensor expected = naive_feed_forward(*layer, "shared_experts.", name, x[t]) +
                          naive_feed_forward(*layer, "dense_residual.", name, x[t]);
        for (int64_t k = 0; k < 2; ++k) {
          const auto expert = routing.expert_ids[t][k].item<int64_t>();
          expected = expected + routing.weights[t][k] * naive_feed_forward(*layer, "experts.", name, x[t], expert);
        }
        EXPECT_TRUE(close(y[t], expected)) << name << bias << t;
      }
    }
  }
}

TEST(FeedForward, PaddingRowsReachNoBias) {
  const OneThread one_thread;
  // Rows of zeros that the dispatcher adds compute something when there are biases; no gradient may come of it.
  const Config config = config_of("gelu", true);
  MoeLayer layer = filled(MoeLayer(*config.moe, config.model, 0));
  const Tensor x = random_tensor({100, 8}, 20);
  LocalDispatcher dispatcher;
  const auto [y, routing] = layer->forward({.x = x}, dispatcher, std::nullopt);
  y.sum().backward();
  // d (sum y) / d down_bias[e] is the sum of the weights that tokens give to e.
  const Tensor given = torch::zeros({4}, kF64).scatter_add(0, routing.expert_ids.flatten(), routing.weights.flatten());
  EXPECT_TRUE(close(parameter_of(*layer, "experts.down_bias").grad(), given.unsqueeze(1).expand({4, 8})));
}

TEST(FeedForward, ParameterShapes) {
  const auto shapes = [](const std::string& activation, bool stacked) {
    const FeedForward layer(config_of(activation, true).model, stacked ? 3 : 1, 5, stacked);
    std::vector<std::pair<std::string, std::vector<int64_t>>> all;
    for (const auto& item : layer->named_parameters()) all.emplace_back(item.key(), item.value().sizes().vec());
    return all;
  };
  using Shapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;
  EXPECT_EQ(
      shapes("geglu", true),
      (Shapes{
          {"gate_up_proj", {3, 10, 8}}, {"down_proj", {3, 8, 5}}, {"gate_up_bias", {3, 10}}, {"down_bias", {3, 8}}}));
  EXPECT_EQ(shapes("gelu", false),
            (Shapes{{"up_proj", {5, 8}}, {"down_proj", {8, 5}}, {"up_bias", {5}}, {"down_bias", {8}}}));
  EXPECT_THROW(FeedForward(config_of("relu", true).model, 2, 5, /*stacked=*/false), c10::ValueError);
}

}  // namespace
}  // namespace switchyard::test::feed_forward_test
