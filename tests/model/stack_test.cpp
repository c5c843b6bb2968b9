// Whole models with the options of the stack: gradients, generation with a cache, and what each option does.
#include "model/accounting.h"
#include "tests/support/naive_attention.h"
#include "tests/support/whole_models.h"

namespace switchyard::test::stack_test {
namespace {

using torch::Tensor;

struct Variant {
  const char* name;
  bool moe;
  std::vector<std::string> overrides;
};

std::ostream& operator<<(std::ostream& out, const Variant& variant) { return out << variant.name; }

const std::vector<std::string> kGpt2 = {"model.activation=gelu", "model.bias=true", "model.normalization=layer_norm",
                                        "model.position_embedding=learned", "training.seq_length=8"};

const Variant kVariants[] = {
    {"gpt2", false, kGpt2},
    {"geglu", true, {"model.activation=geglu"}},
    {"relu_experts_with_bias", true, {"model.activation=relu", "model.bias=true", "moe.num_shared_experts=1"}},
    {"gelu_experts_dense_residual", true, {"model.activation=gelu", "moe.dense_residual=true"}},
    {"layer_norm", true, {"model.normalization=layer_norm"}},
    {"post_norm", true, {"model.post_norm=true"}},
    {"post_layer_norm", false, {"model.post_norm=true", "model.normalization=layer_norm"}},
    {"learned_positions", true, {"model.position_embedding=learned", "training.seq_length=8"}},
    {"qk_norm_full",
     false,
     {"model.qk_norm=full", "model.num_attention_heads=4", "model.num_key_value_heads=2", "model.head_dim=16"}},
    {"window", false, {"model.sliding_window=3"}},
    {"window_in_one_layer", true, {"model.sliding_window=2", "model.sliding_window_layers=[0, 1]"}},
    {"attention_softcap", false, {"model.attention_softcap=0.5"}},
    {"window_and_softcap", true, {"model.attention_softcap=0.5", "model.sliding_window=4"}},
    {"latent",
     false,
     {"model.latent_attention.kv_lora_rank=5", "model.latent_attention.qk_nope_head_dim=3",
      "model.latent_attention.qk_rope_head_dim=4", "model.latent_attention.v_head_dim=2"}},
    {"latent_with_query_latent",
     true,
     {"model.latent_attention.kv_lora_rank=5", "model.latent_attention.q_lora_rank=6",
      "model.latent_attention.qk_nope_head_dim=4", "model.latent_attention.qk_rope_head_dim=2", "model.bias=true"}},
    {"scales", false, {"model.embedding_scale=3", "model.logit_scale=0.4"}},
    {"logit_softcap", true, {"model.logit_softcap=2"}},
    {"grok",
     true,
     {"model.activation=geglu", "model.post_norm=true", "model.attention_softcap=3", "model.embedding_scale=2.5",
      "model.logit_scale=0.6", "model.logit_softcap=4", "model.tie_word_embeddings=false"}},
};

Config config_of(const Variant& variant) {
  return variant.moe ? tiny_moe_config(variant.overrides) : tiny_config(variant.overrides);
}

Tensor loss_of(Transformer& model, const Tensor& tokens) {
  return model->language_model_loss(model->forward(tokens), tokens.roll(-1, 1).flatten());
}

class Stack : public ::testing::TestWithParam<Variant> {
  OneThread one_thread_;
};

TEST_P(Stack, GradientOfEveryParameter) {
  const Config config = config_of(GetParam());
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 6);
  EXPECT_TRUE(gradients_match([&] { return loss_of(model, tokens); }, leaves_of(*model), {.samples = 8}));
}

TEST_P(Stack, ACacheGivesTheSameLogits) { expect_cache_equals_forward(config_of(GetParam())); }

TEST_P(Stack, TheLossIsTheCrossEntropyOfTheLogits) {
  const Config config = config_of(GetParam());
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 6);
  const Tensor chosen = torch::log_softmax(logits_of(model, tokens), -1).gather(2, tokens.roll(-1, 1).unsqueeze(-1));
  EXPECT_TRUE(close(loss_of(model, tokens), -chosen.mean()));
}

TEST_P(Stack, LaterTokensDoNotReachEarlierPositions) {
  const Config config = config_of(GetParam());
  Transformer model = make_model(config);
  Tensor tokens = random_tokens(config, 2, 6);
  const Tensor before = logits_of(model, tokens);
  tokens.select(1, 4).copy_((tokens.select(1, 4) + 1) % 11);
  const Tensor after = logits_of(model, tokens);
  EXPECT_TRUE(close(after.narrow(1, 0, 4), before.narrow(1, 0, 4)));
  EXPECT_FALSE(close(after.select(1, 5), before.select(1, 5)));
}

TEST_P(Stack, Bfloat16IsNearFloat32AndCastMatricesChangeNoBit) {
  std::vector<std::string> overrides = GetParam().overrides;
  overrides.emplace_back("model.init_std=0.1");
  const Config config = config_of({GetParam().name, GetParam().moe, overrides});
  Transformer model = make_model(config, kF32);
  const Tensor tokens = random_tokens(config, 2, 6);
  const double wide = loss_of(model, tokens).item<double>();
  model->set_compute_type(kBf16);
  EXPECT_EQ(model->forward(tokens).hidden.scalar_type(), kBf16);
  EXPECT_NEAR(loss_of(model, tokens).item<double>(), wide, 0.02 * wide);
  const Tensor before = logits_of(model, tokens);
  model->cast_matrices();
  EXPECT_TRUE(identical(logits_of(model, tokens), before));
}

TEST_P(Stack, TheSameStepTwiceGivesTheSameBits) {
  const Config config = config_of(GetParam());
  Transformer model = make_model(config, kF32);
  const Tensor tokens = random_tokens(config, 4, 8);
  const auto gradients = [&] { return torch::autograd::grad({loss_of(model, tokens)}, model->parameters()); };
  const auto first = gradients(), second = gradients();
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], second[i])) << i;
}

TEST_P(Stack, AccountingCountsEveryParameter) {
  int64_t total = 0;
  const Transformer model(config_of(GetParam()));
  for (const auto& parameter : model->parameters()) total += parameter.numel();
  EXPECT_EQ(count_parameters(config_of(GetParam())).total, total);
}

// What initialise() makes of each parameter.
TEST_P(Stack, Initialisation) {
  std::vector<std::string> overrides = GetParam().overrides;
  overrides.insert(overrides.end(), {"model.hidden_size=64", "model.vocab_size=100", "model.intermediate_size=96",
                                     "training.seq_length=40", "model.init_std=0.03"});
  if (GetParam().moe) overrides.insert(overrides.end(), {"moe.intermediate_size=48", "moe.num_experts=32"});
  if (const auto latent = config_of(GetParam()).model.latent_attention) {
    if (latent->q_lora_rank) overrides.emplace_back("model.latent_attention.q_lora_rank=48");
    overrides.insert(overrides.end(),
                     {"model.latent_attention.kv_lora_rank=48", "model.latent_attention.qk_nope_head_dim=24",
                      "model.latent_attention.v_head_dim=24"});
  }
  Transformer model(config_of({GetParam().name, GetParam().moe, overrides}));
  model->initialise(1);
  for (const auto& parameter : model->named_parameters()) {
    const std::string& name = parameter.key();
    if (name.ends_with("norm") || name.ends_with("_bias")) {
      EXPECT_TRUE(parameter.value().eq(name.ends_with("norm") ? 1 : 0).all().item<bool>()) << name;
      continue;
    }
    const bool residual = name.ends_with("o_proj") || name.ends_with("down_proj");
    const double expected = residual ? 0.03 / 2 : 0.03;  // sqrt(2 * 2 layers)
    // 2,048 values or more: the estimate's own deviation is at most 1.6 %.
    ASSERT_GE(parameter.value().numel(), 2048) << name;
    EXPECT_NEAR(parameter.value().std().item<double>() / expected, 1, 0.08) << name;
    EXPECT_NEAR(parameter.value().mean().item<double>() / expected, 0, 0.12) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Stack, ::testing::ValuesIn(kVariants),
                         [](const auto& info) { return std::string(info.param.name); });

// GPT-2 written out: x [S] tokens of one sequence -> [S, V].
Tensor naive_gpt2(const Transformer& model, const Tensor& tokens) {
  const ModelConfig& config = model->config().model;
  const auto p = [&](const std::string& name) { return parameter_of(*model, name); };
  const auto norm = [&](const Tensor& x, const std::string& name) {
    const Tensor centred = x - x.mean(-1, true);
    return centred / (centred.square().mean(-1, true) + config.norm_eps).sqrt() * p(name) + p(name + "_bias");
  };
  const auto map = [&](const Tensor& x, const std::string& name) {
    return torch::mm(x, p(name + "_proj").t()) + p(name + "_bias");
  };
  const int64_t heads = config.num_attention_heads;
  Tensor x = p("embed_tokens").index_select(0, tokens) + p("embed_positions").narrow(0, 0, tokens.size(0));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string at = "layers." + std::to_string(layer) + ".";
    const auto qkv = map(norm(x, at + "attention_norm"), at + "attention.qkv").chunk(3, 1);
    const auto split = [&](const Tensor& t) { return t.reshape({t.size(0), heads, -1}); };
    const Tensor mixed = naive_attention(split(qkv[0]), split(qkv[1]), split(qkv[2]));
    x = x + map(mixed, at + "attention.o");
    const Tensor h = map(norm(x, at + "feed_forward_norm"), at + "mlp.up");
    const Tensor gelu = 0.5 * h * (1 + torch::tanh(std::sqrt(2 / 3.141592653589793) * (h + 0.044715 * h.pow(3))));
    x = x + map(gelu, at + "mlp.down");
  }
  return torch::mm(norm(x, "norm"), p("embed_tokens").t());
}

TEST(StackOptions, Gpt2EqualsItsFormulas) {
  const torch::NoGradGuard no_grad;
  const Config config = tiny_config(kGpt2);
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 1, 6);
  EXPECT_TRUE(close(logits_of(model, tokens)[0], naive_gpt2(model, tokens[0])));
}

TEST(StackOptions, AWindowEndsTheReachOfATokenExactly) {
  // Two layers with a window of 3: a token reaches 2 positions further in each.
  const Config config = tiny_config({"model.sliding_window=3"});
  Transformer model = make_model(config);
  Tensor tokens = random_tokens(config, 1, 9);
  const Tensor before = logits_of(model, tokens)[0];
  tokens[0][2] = (tokens[0][2] + 1) % 11;
  const Tensor after = logits_of(model, tokens)[0];
  const Tensor changed = (after - before).abs().amax(1) > 1e-9;
  EXPECT_TRUE(torch::equal(changed, torch::tensor({false, false, true, true, true, true, true, false, false})));
}

TEST(StackOptions, TokensMaySkipBlocksOfEveryKind) {
  // Mixture of Depths gives attention the tokens that pass, at positions of their own.
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  for (const Variant& variant : kVariants) {
    std::vector<std::string> overrides = variant.overrides;
    overrides.insert(overrides.end(), {"mixture_of_depths.capacity_factor=0.5", "mixture_of_depths.layer_freq=1"});
    const Config config = config_of({variant.name, variant.moe, overrides});
    Transformer model = make_model(config);
    const Tensor tokens = random_tokens(config, 1, 8);
    EXPECT_EQ(model->forward(tokens).depths.size(), 2U);
    model->eval();
    const auto full = model->forward(tokens);
    const Tensor expected = model->logits(full.hidden);
    KvCache cache = model->make_cache(1, 8);
    int64_t begin = 0;
    for (const int64_t count : {3, 2, 1, 1, 1}) {
      const auto hidden = model->forward(tokens.narrow(1, begin, count), &cache).hidden;
      EXPECT_TRUE(close(model->logits(hidden), expected.narrow(0, begin, count))) << variant.name << begin;
      begin += count;
    }
  }
}

TEST(StackOptions, LearnedPositionsEnd) {
  const Config config = tiny_config({"model.position_embedding=learned", "training.seq_length=4"});
  Transformer model = make_model(config);
  model->eval();
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(parameter_of(*model, "embed_positions").sizes(), (std::vector<int64_t>{4, 8}));
  EXPECT_NO_THROW(model->forward(random_tokens(config, 1, 4)));
  EXPECT_THROW(model->forward(random_tokens(config, 1, 5)), c10::ValueError);
  KvCache cache = model->make_cache(1, 6);
  model->forward(random_tokens(config, 1, 4), &cache);
  EXPECT_THROW(model->forward(random_tokens(config, 1, 1), &cache), c10::ValueError);
  EXPECT_EQ(cache.length, 4);
}

TEST(StackOptions, LearnedPositionsTellTokensApart) {
  // The same token everywhere: without positions all rows would be alike.
  const Config config = tiny_config({"model.position_embedding=learned", "training.seq_length=4"});
  Transformer model = make_model(config);
  const Tensor tokens = torch::full({1, 4}, 3, torch::kInt64);
  EXPECT_FALSE(close(logits_of(model, tokens)[0][0], logits_of(model, tokens)[0][1]));
  {
    const torch::NoGradGuard no_grad;
    parameter_of(*model, "embed_positions").zero_();
  }
  EXPECT_TRUE(close(logits_of(model, tokens)[0][0], logits_of(model, tokens)[0][1]));
}

TEST(StackOptions, ScalesAndCapOfTheLogits) {
  Transformer plain = make_model(tiny_config());
  Transformer scaled = make_model(tiny_config({"model.logit_scale=0.25"}));
  Transformer capped = make_model(tiny_config({"model.logit_scale=0.25", "model.logit_softcap=1.5"}));
  const Tensor tokens = random_tokens(plain->config(), 2, 5);
  const Tensor logits = logits_of(plain, tokens);
  EXPECT_TRUE(close(logits_of(scaled, tokens), 0.25 * logits));
  EXPECT_TRUE(close(logits_of(capped, tokens), 1.5 * torch::tanh(0.25 * logits / 1.5)));
}

TEST(StackOptions, TheEmbeddingScaleIsOnTheTokensAlone) {
  const std::vector<std::string> learned = {"model.position_embedding=learned", "training.seq_length=8",
                                            "model.tie_word_embeddings=false"};
  std::vector<std::string> with_scale = learned;
  with_scale.emplace_back("model.embedding_scale=3");
  Transformer plain = make_model(tiny_config(learned));
  Transformer scaled = make_model(tiny_config(with_scale));
  const Tensor tokens = random_tokens(plain->config(), 2, 5);
  const Tensor expected = logits_of(scaled, tokens);
  EXPECT_FALSE(close(logits_of(plain, tokens), expected));
  const torch::NoGradGuard no_grad;
  parameter_of(*plain, "embed_tokens").mul_(3);
  EXPECT_TRUE(close(logits_of(plain, tokens), expected));
}

TEST(StackOptions, PostNormsFixTheSizeOfABranch) {
  // Behind its norm, a branch's size is the norm's weight, whatever its last matrix: scaling that changes nothing.
  const Config config = tiny_config({"model.post_norm=true", "model.norm_eps=1e-30"});
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 5);
  const Tensor before = logits_of(model, tokens);
  const torch::NoGradGuard no_grad;
  parameter_of(*model, "layers.0.attention.o_proj").mul_(7);
  parameter_of(*model, "layers.1.mlp.down_proj").mul_(3);
  EXPECT_TRUE(close(logits_of(model, tokens), before));
  parameter_of(*model, "layers.0.attention_post_norm").mul_(2);
  EXPECT_FALSE(close(logits_of(model, tokens), before));
}

}  // namespace
}  // namespace switchyard::test::stack_test
