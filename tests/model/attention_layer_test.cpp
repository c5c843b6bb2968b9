#include "model/attention_layer.h"

#include "tests/support/models.h"
#include "tests/support/naive_attention.h"

namespace switchyard::test::attention_layer_test {
namespace {

using torch::Tensor;

constexpr int64_t kHidden = 8, kLength = 7;

std::shared_ptr<Attention> make_layer(const ModelConfig& config, int64_t layer = 0) {
  auto attention = make_attention(config, layer);
  attention->to(kF64);
  const torch::NoGradGuard no_grad;
  uint64_t seed = 1;
  for (auto& parameter : attention->parameters()) parameter.copy_(0.6 * random_tensor(parameter.sizes(), seed++));
  return attention;
}

RotaryTable table_of(const ModelConfig& config, int64_t first, int64_t count) {
  if (config.position_embedding == PositionEmbedding::kLearned) return {};
  return rotary_table(first, count, rotary_width(config), config.rope_theta, torch::TensorOptions(kF64));
}

// The layer on one sequence x [S, D], written out.
Tensor naive_heads(const Attention& layer, const ModelConfig& config, const Tensor& x, std::optional<int64_t> window) {
  const int64_t heads = config.num_attention_heads, groups = *config.num_key_value_heads, width = *config.head_dim;
  const auto names = layer.named_parameters();
  Tensor joint = torch::mm(x, names["qkv_proj"].t());
  if (config.bias) joint = joint + names["qkv_bias"];
  auto parts = joint.split_with_sizes({heads * width, groups * width, groups * width}, 1);
  if (config.qk_norm == QkNorm::kFull) {
    parts[0] = naive_rms_norm(parts[0], names["q_norm"], config.norm_eps);
    parts[1] = naive_rms_norm(parts[1], names["k_norm"], config.norm_eps);
  }
  Tensor query = parts[0].reshape({-1, heads, width}).clone(), key = parts[1].reshape({-1, groups, width}).clone();
  if (config.position_embedding == PositionEmbedding::kRotary) {
    for (int64_t s = 0; s < x.size(0); ++s) {
      for (int64_t h = 0; h < heads; ++h) query[s][h].copy_(naive_rotate(query[s][h], s, config.rope_theta));
      for (int64_t g = 0; g < groups; ++g) key[s][g].copy_(naive_rotate(key[s][g], s, config.rope_theta));
    }
  }
  const Tensor mixed =
      naive_attention(query, key, parts[2].reshape({-1, groups, width}), window, config.attention_softcap);
  const Tensor y = torch::mm(mixed, names["o_proj"].t());
  return config.bias ? y + names["o_bias"] : y;
}

const std::vector<std::string> kGrouped = {"model.num_attention_heads=4", "model.num_key_value_heads=2",
                                           "model.head_dim=6"};

ModelConfig grouped_config(std::vector<std::string> more) {
  more.insert(more.end(), kGrouped.begin(), kGrouped.end());
  return tiny_config(more).model;
}

TEST(HeadAttention, EqualsItsFormulas) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  const std::vector<std::vector<std::string>> variants = {
      {},
      {"model.bias=true"},
      {"model.qk_norm=full"},
      {"model.qk_norm=full", "model.bias=true", "model.attention_softcap=0.8"},
      {"model.sliding_window=3"},
      {"model.sliding_window=1", "model.position_embedding=learned"},
      {"model.position_embedding=learned", "model.bias=true"}};
  for (size_t i = 0; i < variants.size(); ++i) {
    const ModelConfig config = grouped_config(variants[i]);
    const auto layer = make_layer(config);
    const Tensor x = random_tensor({2, kLength, kHidden}, 20);
    const Tensor y = layer->forward(x, table_of(config, 0, kLength), nullptr);
    for (int64_t b = 0; b < 2; ++b) {
      EXPECT_TRUE(close(y[b], naive_heads(*layer, config, x[b], config.sliding_window))) << i;
    }
  }
}

TEST(HeadAttention, TheWindowIsOnTheListedLayersOnly) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  const ModelConfig config = grouped_config({"model.sliding_window=2", "model.sliding_window_layers=2"});
  const Tensor x = random_tensor({1, kLength, kHidden}, 20);
  for (const int64_t index : {0, 1}) {  // the last of every two
    const auto layer = make_layer(config, index);
    const Tensor y = layer->forward(x, table_of(config, 0, kLength), nullptr)[0];
    EXPECT_TRUE(close(y, naive_heads(*layer, config, x[0], index == 1 ? std::optional<int64_t>(2) : std::nullopt)));
  }
}

TEST(HeadAttention, ParameterShapes) {
  const auto names = make_attention(grouped_config({"model.qk_norm=full", "model.bias=true"}), 0)->named_parameters();
  const std::vector<std::pair<std::string, std::vector<int64_t>>> expected = {{"qkv_proj", {48, 8}}, {"qkv_bias", {48}},
                                                                              {"o_proj", {8, 24}},   {"o_bias", {8}},
                                                                              {"q_norm", {24}},      {"k_norm", {12}}};
  EXPECT_EQ(names.size(), expected.size());
  for (const auto& [name, shape] : expected) EXPECT_EQ(names[name].sizes(), shape) << name;
}

// --- latent attention ----------------------------------------------------------------------------------------------

ModelConfig latent_config(std::vector<std::string> more) {
  more.insert(more.end(), {"model.num_attention_heads=3", "model.latent_attention.kv_lora_rank=5",
                           "model.latent_attention.qk_nope_head_dim=3", "model.latent_attention.qk_rope_head_dim=4",
                           "model.latent_attention.v_head_dim=2"});
  return tiny_config(more).model;
}

const std::vector<std::vector<std::string>> kLatentVariants = {
    {},
    {"model.latent_attention.q_lora_rank=7"},
    {"model.latent_attention.q_lora_rank=7", "model.bias=true", "model.normalization=layer_norm"},
    {"model.bias=true", "model.sliding_window=3", "model.attention_softcap=0.8"}};

// The layer on one sequence x [S, D], a head and a position at a time.
Tensor naive_latent(const Attention& layer, const ModelConfig& config, const Tensor& x) {
  const LatentAttentionConfig& widths = *config.latent_attention;
  const int64_t heads = config.num_attention_heads, nope = widths.qk_nope_head_dim, rope = widths.qk_rope_head_dim;
  const int64_t rank = widths.kv_lora_rank, value_width = *widths.v_head_dim;
  const auto names = layer.named_parameters();
  const auto map = [&](const Tensor& in, const std::string& name) {
    const Tensor y = torch::mv(names[name + "_proj"], in);
    return config.bias ? y + names[name + "_bias"] : y;
  };
  const auto norm = [&](const Tensor& in, const std::string& name) {
    if (config.normalization == Normalization::kRmsNorm) return naive_rms_norm(in, names[name], config.norm_eps);
    const Tensor centred = in - in.mean();
    return centred / (centred.square().mean() + config.norm_eps).sqrt() * names[name] + names[name + "_bias"];
  };
  Tensor query = torch::zeros({x.size(0), heads, nope + rope}, x.options()), key = torch::zeros_like(query);
  Tensor value = torch::zeros({x.size(0), heads, value_width}, x.options());
  for (int64_t s = 0; s < x.size(0); ++s) {
    const Tensor q = widths.q_lora_rank ? map(norm(map(x[s], "q_a"), "q_a_norm"), "q_b") : map(x[s], "q");
    const Tensor joint = map(x[s], "kv_a");
    const Tensor shared = naive_rotate(joint.narrow(0, rank, rope), s, config.rope_theta);
    const Tensor kv = map(norm(joint.narrow(0, 0, rank), "kv_a_norm"), "kv_b");
    for (int64_t h = 0; h < heads; ++h) {
      const Tensor q_head = q.narrow(0, h * (nope + rope), nope + rope);
      query[s][h].narrow(0, 0, nope).copy_(q_head.narrow(0, 0, nope));
      query[s][h].narrow(0, nope, rope).copy_(naive_rotate(q_head.narrow(0, nope, rope), s, config.rope_theta));
      key[s][h].narrow(0, 0, nope).copy_(kv.narrow(0, h * (nope + value_width), nope));
      key[s][h].narrow(0, nope, rope).copy_(shared);
      value[s][h].copy_(kv.narrow(0, h * (nope + value_width) + nope, value_width));
    }
  }
  const Tensor mixed = naive_attention(query, key, value, config.sliding_window, config.attention_softcap);
  const Tensor y = torch::mm(mixed, names["o_proj"].t());
  return config.bias ? y + names["o_bias"] : y;
}

TEST(LatentAttention, EqualsItsFormulas) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < kLatentVariants.size(); ++i) {
    const ModelConfig config = latent_config(kLatentVariants[i]);
    const auto layer = make_layer(config);
    const Tensor x = random_tensor({2, kLength, kHidden}, 20);
    const Tensor y = layer->forward(x, table_of(config, 0, kLength), nullptr);
    for (int64_t b = 0; b < 2; ++b) EXPECT_TRUE(close(y[b], naive_latent(*layer, config, x[b]))) << i;
  }
}

TEST(LatentAttention, Gradients) {
  for (size_t i = 0; i < kLatentVariants.size(); ++i) {
    const ModelConfig config = latent_config(kLatentVariants[i]);
    const auto layer = make_layer(config);
    const Tensor x = random_tensor({2, 4, kHidden}, 20).requires_grad_();
    const Tensor weights = random_tensor({2, 4, kHidden}, 21);
    const auto loss = [&] { return (layer->forward(x, table_of(config, 0, 4), nullptr) * weights).sum(); };
    Leaves leaves = leaves_of(*layer);
    leaves.emplace_back("x", x);
    EXPECT_TRUE(gradients_match(loss, leaves)) << i;
  }
}

TEST(LatentAttention, TheCacheHoldsLatentsAndGivesTheSame) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < kLatentVariants.size(); ++i) {
    const ModelConfig config = latent_config(kLatentVariants[i]);
    const auto layer = make_layer(config);
    const Tensor x = random_tensor({2, kLength, kHidden}, 20);
    const Tensor expected = layer->forward(x, table_of(config, 0, kLength), nullptr);
    LayerCache cache = layer->make_cache(2, kLength, torch::TensorOptions(kF64));
    EXPECT_EQ(cache.key.sizes(), (std::vector<int64_t>{2, kLength, 5 + 4}));
    EXPECT_FALSE(cache.value.defined());
    int64_t begin = 0;
    for (const int64_t count : {3, 1, 2, 1}) {
      const Tensor y = layer->forward(x.narrow(1, begin, count), table_of(config, begin, count), &cache);
      EXPECT_TRUE(close(y, expected.narrow(1, begin, count))) << i << ' ' << begin;
      begin += count;
    }
    EXPECT_EQ(cache.length, kLength);
  }
}

TEST(LatentAttention, ParameterShapes) {
  const auto names = make_attention(latent_config(kLatentVariants[2]), 0)->named_parameters();
  const std::vector<std::pair<std::string, std::vector<int64_t>>> expected = {
      {"q_a_proj", {7, 8}},  {"q_a_bias", {7}},       {"q_a_norm", {7}},      {"q_a_norm_bias", {7}},
      {"q_b_proj", {21, 7}}, {"q_b_bias", {21}},      {"kv_a_proj", {9, 8}},  {"kv_a_bias", {9}},
      {"kv_a_norm", {5}},    {"kv_a_norm_bias", {5}}, {"kv_b_proj", {15, 5}}, {"kv_b_bias", {15}},
      {"o_proj", {8, 6}},    {"o_bias", {8}}};
  EXPECT_EQ(names.size(), expected.size());
  for (const auto& [name, shape] : expected) EXPECT_EQ(names[name].sizes(), shape) << name;
  const auto plain = make_attention(latent_config({}), 0)->named_parameters();
  EXPECT_EQ(plain["q_proj"].sizes(), (std::vector<int64_t>{21, 8}));
  EXPECT_EQ(plain.size(), 5U);
}

}  // namespace
}  // namespace switchyard::test::attention_layer_test
