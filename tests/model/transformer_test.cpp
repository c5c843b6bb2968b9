#include "model/transformer.h"

#include <limits>

#include "tests/support/naive_attention.h"
#include "tests/support/whole_models.h"

namespace switchyard::test::transformer_test {
namespace {

using torch::Tensor;

Tensor loss_of(Transformer& model, const Tensor& tokens) {
  const auto output = model->forward(tokens);
  const Tensor targets = tokens.roll(-1, 1).flatten();
  return model->language_model_loss(output, targets);
}

std::vector<Tensor> gradients_of(Transformer& model, const Tensor& tokens) {
  return torch::autograd::grad({loss_of(model, tokens)}, model->parameters());
}

TEST(Transformer, ShapesOfAllResults) {
  const Config config = tiny_moe_config({"moe.layer_freq=2"});
  Transformer model = make_model(config);
  const auto output = model->forward(random_tokens(config, 3, 5));
  EXPECT_EQ(output.hidden.sizes(), (std::vector<int64_t>{15, 8}));
  ASSERT_EQ(output.routers.size(), 1U);
  EXPECT_EQ(output.routers[0].layer, 1);
  EXPECT_EQ(output.routers[0].logits.sizes(), (std::vector<int64_t>{15, 4}));
  EXPECT_EQ(output.routers[0].expert_ids.sizes(), (std::vector<int64_t>{15, 2}));
  EXPECT_EQ(model->logits(output.hidden).sizes(), (std::vector<int64_t>{15, 11}));
}

TEST(Transformer, LayerFrequencyPlacesTheExperts) {
  Transformer model = make_model(tiny_moe_config({"model.num_layers=3", "moe.layer_freq=[1, 0, 1]"}));
  const auto names = model->named_parameters();
  EXPECT_TRUE(names.contains("layers.0.moe.router.weight"));
  EXPECT_TRUE(names.contains("layers.1.mlp.gate_up_proj"));
  EXPECT_TRUE(names.contains("layers.2.moe.experts.down_proj"));
  EXPECT_FALSE(names.contains("layers.1.moe.router.weight"));
}

// Every position's result, worked out from the weights with plain tensor operations and loops over positions.
Tensor naive_logits(const Transformer& model, const Tensor& tokens) {
  const ModelConfig& config = model->config().model;
  const int64_t heads = config.num_attention_heads, groups = *config.num_key_value_heads, width = *config.head_dim;
  const auto p = [&](const std::string& name) { return parameter_of(*model, name); };
  const auto norm = [&](const Tensor& x, const Tensor& weight) {
    return x / (x.square().mean(-1, true) + config.norm_eps).sqrt() * weight;
  };
  Tensor x = p("embed_tokens").index_select(0, tokens);  // [S, D]
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string at = "layers." + std::to_string(layer) + ".";
    const Tensor joint = torch::mm(norm(x, p(at + "attention_norm")), p(at + "attention.qkv_proj").t())
                             .view({-1, heads + 2 * groups, width});
    Tensor mixed = torch::zeros({x.size(0), heads, width}, x.options());
    for (int64_t s = 0; s < x.size(0); ++s) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t g = h / (heads / groups);
        std::vector<Tensor> scores;
        const Tensor query = naive_rotate(norm(joint[s][h], p(at + "attention.q_norm")), s, config.rope_theta);
        for (int64_t past = 0; past <= s; ++past) {
          const Tensor key =
              naive_rotate(norm(joint[past][heads + g], p(at + "attention.k_norm")), past, config.rope_theta);
          scores.push_back(torch::dot(query, key) / std::sqrt(static_cast<double>(width)));
        }
        const Tensor shares = torch::softmax(torch::stack(scores), 0);
        for (int64_t past = 0; past <= s; ++past) mixed[s][h] += shares[past] * joint[past][heads + groups + g];
      }
    }
    x = x + torch::mm(mixed.flatten(1), p(at + "attention.o_proj").t());
    const Tensor normed = norm(x, p(at + "feed_forward_norm"));
    std::vector<Tensor> rows;
    for (int64_t s = 0; s < x.size(0); ++s) {
      rows.push_back(naive_expert(normed[s], p(at + "mlp.gate_up_proj"), p(at + "mlp.down_proj")));
    }
    x = x + torch::stack(rows);
  }
  return torch::mm(norm(x, p("norm")), p("lm_head").t());
}

TEST(Transformer, EqualsItsFormulas) {
  const Config config = tiny_config({"model.num_attention_heads=4", "model.num_key_value_heads=2", "model.head_dim=4",
                                     "model.qk_norm=head", "model.tie_word_embeddings=false"});
  Transformer model = make_model(config);
  const torch::NoGradGuard no_grad;
  const Tensor tokens = random_tokens(config, 1, 6);
  EXPECT_TRUE(close(logits_of(model, tokens)[0], naive_logits(model, tokens[0])));
}

TEST(Transformer, OneExpertEqualsDense) {
  // A softmax over one expert is 1, so the same weights give the same function.
  const Config dense_config = tiny_config();
  Transformer dense = make_model(dense_config);
  Transformer sparse =
      make_model(tiny_moe_config({"moe.num_experts=1", "moe.top_k=1", "moe.intermediate_size=6"}), kF64, 99);
  {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : sparse->named_parameters()) {
      std::string name = parameter.key();
      if (name.ends_with("router.weight")) continue;
      if (const size_t at = name.find("moe.experts."); at != std::string::npos) name.replace(at, 12, "mlp.");
      parameter.value().copy_(parameter_of(*dense, name).view_as(parameter.value()));
    }
  }
  const Tensor tokens = random_tokens(dense_config, 2, 5);
  EXPECT_TRUE(close(loss_of(sparse, tokens), loss_of(dense, tokens)));
  loss_of(sparse, tokens).backward();
  loss_of(dense, tokens).backward();
  EXPECT_TRUE(close(parameter_of(*sparse, "layers.0.moe.experts.gate_up_proj").grad()[0],
                    parameter_of(*dense, "layers.0.mlp.gate_up_proj").grad()));
  EXPECT_TRUE(close(parameter_of(*sparse, "embed_tokens").grad(), parameter_of(*dense, "embed_tokens").grad()));
}

TEST(Transformer, LaterTokensDoNotReachEarlierPositions) {
  const Config config = tiny_moe_config();
  Transformer model = make_model(config);
  Tensor tokens = random_tokens(config, 2, 6);
  const Tensor before = logits_of(model, tokens);
  tokens.select(1, 4).copy_((tokens.select(1, 4) + 1) % 11);
  const Tensor after = logits_of(model, tokens);
  EXPECT_TRUE(close(after.narrow(1, 0, 4), before.narrow(1, 0, 4)));
  EXPECT_FALSE(close(after.select(1, 5), before.select(1, 5)));
}

TEST(KvCache, EqualsTheFullForward) {
  expect_cache_equals_forward(tiny_config());
  expect_cache_equals_forward(tiny_moe_config(
      {"model.num_attention_heads=4", "model.num_key_value_heads=2", "model.head_dim=4", "model.qk_norm=head"}));
}

TEST(KvCache, IgnoresTheCapacityFactor) {
  // With all tokens at once nothing may be dropped either, so that it is the dropless model that both compute.
  expect_cache_equals_forward(tiny_moe_config());
  const Config tight = tiny_moe_config({"moe.eval_capacity_factor=0.3"});
  const Config dropless = tiny_moe_config();
  Transformer model = make_model(tight);
  Transformer reference = make_model(dropless);
  model->eval();
  const torch::NoGradGuard no_grad;
  const Tensor tokens = random_tokens(tight, 2, 6);
  KvCache cache = model->make_cache(2, 6);
  const Tensor cached = model->logits(model->forward(tokens, &cache).hidden);
  EXPECT_TRUE(close(cached, logits_of(reference, tokens).flatten(0, 1)));
  EXPECT_FALSE(close(logits_of(model, tokens).flatten(0, 1), cached));
}

TEST(Transformer, CapacityFactorsOfTrainingAndEvaluation) {
  const Config config = tiny_moe_config({"moe.capacity_factor=0.5", "moe.eval_capacity_factor=4"});
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 8);
  EXPECT_FALSE(model->forward(tokens).routers[0].kept.all().item<bool>());
  model->eval();
  EXPECT_TRUE(model->forward(tokens).routers[0].kept.all().item<bool>());
}

TEST(Transformer, DropoutOnlyInTraining) {
  const Config config = tiny_config({"model.dropout=0.3"});
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 6);
  torch::manual_seed(1);
  const Tensor first = logits_of(model, tokens);
  EXPECT_FALSE(torch::equal(logits_of(model, tokens), first));
  torch::manual_seed(1);
  EXPECT_TRUE(torch::equal(logits_of(model, tokens), first));
  model->eval();
  Transformer plain = make_model(tiny_config());
  EXPECT_TRUE(torch::equal(logits_of(model, tokens), logits_of(plain, tokens)));
}

TEST(Transformer, NanInAWeightReachesTheLossAndAnInvalidTokenIsRefused) {
  for (const auto type : {kF32, kBf16}) {
    const Config config = tiny_moe_config();
    Transformer model = make_model(config, kF32);
    model->set_compute_type(type);
    const Tensor tokens = random_tokens(config, 2, 6);
    EXPECT_TRUE(loss_of(model, tokens).isfinite().item<bool>());
    {
      const torch::NoGradGuard no_grad;
      parameter_of(*model, "layers.1.attention.qkv_proj")[0][0].fill_(std::numeric_limits<float>::quiet_NaN());
    }
    EXPECT_TRUE(loss_of(model, tokens).isnan().item<bool>());
    EXPECT_ANY_THROW(model->forward(torch::full({1, 2}, 11, torch::kInt64)));
  }
}

TEST(Transformer, Bfloat16IsNearFloat32) {
  const Config config = tiny_moe_config({"model.init_std=0.1"});
  Transformer model = make_model(config, kF32);
  const Tensor tokens = random_tokens(config, 2, 6);
  const double wide = loss_of(model, tokens).item<double>();
  model->set_compute_type(kBf16);
  EXPECT_EQ(model->forward(tokens).hidden.scalar_type(), kBf16);
  EXPECT_NEAR(loss_of(model, tokens).item<double>(), wide, 0.02 * wide);
}

TEST(Transformer, CastMatricesChangeNoBit) {
  const Config config = tiny_moe_config({"model.tie_word_embeddings=false"});
  Transformer model = make_model(config, kF32);
  model->set_compute_type(kBf16);
  const Tensor tokens = random_tokens(config, 2, 6);
  const Tensor before = logits_of(model, tokens);
  model->cast_matrices();
  EXPECT_EQ(parameter_of(*model, "layers.0.moe.experts.down_proj").scalar_type(), kBf16);
  EXPECT_EQ(parameter_of(*model, "layers.0.moe.router.weight").scalar_type(), kF32);
  EXPECT_TRUE(identical(logits_of(model, tokens), before));
}

TEST(Determinism, TheSameStepTwiceGivesTheSameBits) {
  for (const auto type : {kF32, kBf16}) {
    const Config config = tiny_moe_config({"moe.capacity_factor=0.7"});
    Transformer model = make_model(config, kF32);
    model->set_compute_type(type);
    const Tensor tokens = random_tokens(config, 4, 32);
    EXPECT_TRUE(torch::equal(loss_of(model, tokens), loss_of(model, tokens)));
    const auto first = gradients_of(model, tokens);
    const auto second = gradients_of(model, tokens);
    for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], second[i])) << i;
  }
}

Config initialise_config(const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all = {
      "model.hidden_size=64",      "model.vocab_size=200", "model.intermediate_size=128",
      "moe.intermediate_size=64",  "model.init_std=0.03",  "moe.num_shared_experts=1",
      "moe.router.init_scale=0.5", "moe.num_experts=32",   "model.tie_word_embeddings=false"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return tiny_moe_config(all);
}

Transformer initialised(const Config& config, uint64_t seed) {
  Transformer model(config);
  model->initialise(seed);
  return model;
}

TEST(Initialise, StandardDeviations) {
  const auto model = initialised(initialise_config({"model.qk_norm=head"}), 1);
  for (const auto& parameter : model->named_parameters()) {
    const std::string& name = parameter.key();
    if (name.ends_with("norm")) {
      EXPECT_TRUE(parameter.value().eq(1).all().item<bool>()) << name;
      continue;
    }
    double expected = 0.03;
    if (name.ends_with("o_proj") || name.ends_with("down_proj")) expected = 0.03 / 2;  // sqrt(2 * 2 layers)
    if (name.ends_with("router.weight")) expected = 0.03 * 0.5;
    // 2,048 values or more: the estimate's own deviation is at most 1.6 %.
    EXPECT_NEAR(parameter.value().std().item<double>() / expected, 1, 0.08) << name;
    EXPECT_NEAR(parameter.value().mean().item<double>() / expected, 0, 0.12) << name;
  }
}

TEST(Initialise, DependsOnTheSeedAndOnNothingElse) {
  const auto first = initialised(initialise_config(), 1);
  torch::manual_seed(123);
  const auto again = initialised(initialise_config(), 1);
  const auto other = initialised(initialise_config(), 2);
  for (const auto& parameter : first->named_parameters()) {
    EXPECT_TRUE(torch::equal(parameter.value(), parameter_of(*again, parameter.key()))) << parameter.key();
    if (parameter.key().ends_with("norm")) continue;
    EXPECT_FALSE(torch::equal(parameter.value(), parameter_of(*other, parameter.key()))) << parameter.key();
  }
}

TEST(Initialise, AParameterDependsOnItsNameNotOnItsNeighbours) {
  // Another block kind in front, tied embeddings: what is in both models has the same values.
  const auto first = initialised(initialise_config(), 1);
  const auto other = initialised(
      initialise_config({"moe.layer_freq=[0, 1]", "model.tie_word_embeddings=true", "model.qk_norm=head"}), 1);
  int64_t shared = 0;
  for (const auto& parameter : other->named_parameters()) {
    if (!first->named_parameters().contains(parameter.key())) continue;
    EXPECT_TRUE(torch::equal(parameter.value(), parameter_of(*first, parameter.key()))) << parameter.key();
    ++shared;
  }
  EXPECT_GE(shared, 12);
}

TEST(Initialise, DifferentParametersDiffer) {
  const auto model = initialised(initialise_config(), 1);
  EXPECT_FALSE(torch::equal(parameter_of(*model, "layers.0.attention.qkv_proj"),
                            parameter_of(*model, "layers.1.attention.qkv_proj")));
  EXPECT_FALSE(torch::equal(parameter_of(*model, "embed_tokens"), parameter_of(*model, "lm_head")));
  const auto experts = parameter_of(*model, "layers.0.moe.experts.gate_up_proj");
  EXPECT_FALSE(torch::equal(experts[0], experts[1]));
}

}  // namespace
}  // namespace switchyard::test::transformer_test
