#include "model/accounting.h"

#include "tests/support/models.h"

namespace switchyard::test {
namespace {

// Hidden 256, 6 layers, 8 heads, 8 experts of width 512, top-2, a tied vocabulary of 8192, sequences of 256.
Config reference_shape() {
  return tiny_moe_config({"model.hidden_size=256", "model.num_layers=6", "model.num_attention_heads=8",
                          "model.vocab_size=8192", "moe.num_experts=8", "moe.intermediate_size=512",
                          "training.seq_length=256"});
}

TEST(Accounting, ReferenceShapeByHand) {
  // A layer: attention 4 * 256^2, norms 2 * 256, router 8 * 256, experts 8 * 3 * 256 * 512.
  const int64_t layer = 262144 + 512 + 2048 + 3145728;
  const auto count = count_parameters(reference_shape());
  EXPECT_EQ(count.total, 8192 * 256 + 6 * layer + 256);
  EXPECT_EQ(count.active, count.total - 6 * 6 * 3 * 256 * 512);  // 6 of 8 experts in 6 layers are idle
  // Forward, a multiply-add counting two: attention's matrices and half the square of scores and mixing, the router,
  // two experts; the output projection once.
  const double forward = 6.0 * (2 * 262144 + 2 * 256 * 256 + 2 * 2048 + 2 * 2 * 393216) + 2.0 * 8192 * 256;
  EXPECT_DOUBLE_EQ(training_flops_per_token(reference_shape()), 3 * forward);
}

double forward_flops(const Config& config, const std::string& name) {
  for (const ComponentCost& cost : component_costs(config)) {
    if (cost.name == name) return cost.forward_flops;
  }
  ADD_FAILURE() << "no component " << name;
  return 0;
}

int64_t numbers_in(const Config& config) {
  int64_t total = 0;
  const Transformer model(config);
  for (const auto& parameter : model->parameters()) total += parameter.numel();
  return total;
}

TEST(Accounting, CountsWhatTheModelHas) {
  const std::vector<std::vector<std::string>> variants = {
      {},
      {"model.tie_word_embeddings=false", "model.qk_norm=head"},
      {"model.num_attention_heads=4", "model.num_key_value_heads=2", "model.head_dim=6", "moe.num_shared_experts=2"},
      {"model.num_layers=3", "moe.layer_freq=[1, 0, 1]", "moe.top_k=1"},
      {"moe.router.type=noisy_top_k"},
      {"moe.router.type=hierarchical", "moe.router.num_groups=2"},
      {"moe.router.type=soft_mixture", "moe.top_k=4"},
      {"moe.router.type=threshold"}};
  for (const auto& variant : variants) {
    EXPECT_EQ(count_parameters(tiny_moe_config(variant)).total, numbers_in(tiny_moe_config(variant)));
  }
  EXPECT_EQ(count_parameters(tiny_config()).total, numbers_in(tiny_config()));
  EXPECT_EQ(count_parameters(tiny_config()).active, numbers_in(tiny_config()));
}

// Stacks and routers beyond the reference model's; sizes are unequal, so that no matrix is counted transposed.
TEST(Accounting, ParametersOfFurtherStacks) {
  const std::vector<std::vector<std::string>> stacks = {
      {"model.activation=gelu"},
      {"model.activation=relu", "model.bias=true", "moe.num_shared_experts=2"},
      {"model.activation=geglu", "model.bias=true", "moe.first_k_dense=1"},
      {"model.normalization=layer_norm"},
      {"model.normalization=layer_norm", "model.post_norm=true", "model.bias=true"},
      {"model.position_embedding=learned", "training.seq_length=7"},
      {"model.qk_norm=full", "model.num_attention_heads=4", "model.num_key_value_heads=2", "model.head_dim=6"},
      {"model.latent_attention={kv_lora_rank: 5, qk_nope_head_dim: 6, qk_rope_head_dim: 4, v_head_dim: 3}"},
      {"model.latent_attention={kv_lora_rank: 5, q_lora_rank: 7, qk_nope_head_dim: 6, qk_rope_head_dim: 4}",
       "model.normalization=layer_norm", "model.bias=true"},
      {"moe.dense_residual=true", "model.bias=true"},
      {"moe.first_k_dense=2", "model.num_layers=3"},
      {"mixture_of_depths={layer_freq: 2}"},
      {"mixture_of_depths={layer_freq: [1, 0]}", "model.bias=true", "model.post_norm=true"}};
  for (const auto& stack : stacks) {
    const Config config = tiny_moe_config(stack);
    EXPECT_EQ(count_parameters(config).total, numbers_in(config)) << testing::PrintToString(stack);
  }
  const std::vector<std::vector<std::string>> routers = {{"moe.router=switch", "moe.top_k=1"},
                                                         {"moe.router=noisy_top_k"},
                                                         {"moe.router={type: hierarchical, num_groups: 2}"},
                                                         {"moe.router=soft_mixture", "moe.top_k=4"},
                                                         {"moe.router=expert_choice"},
                                                         {"moe.router=threshold"},
                                                         {"moe.router=hash"},
                                                         {"moe.router=random"},
                                                         {"moe.router=sinkhorn"},
                                                         {"moe.router=quantile"},
                                                         {"moe.router=soft_moe", "training.seq_length=6"},
                                                         {"moe.router.null_experts=3"},
                                                         {"moe.router.expert_bias=true"}};
  for (const auto& router : routers) {
    const Config config = tiny_moe_config(router);
    EXPECT_EQ(count_parameters(config).total, numbers_in(config)) << testing::PrintToString(router);
  }
}

TEST(Accounting, ExpertsThatCompeteHaveAnOutputProjectionEach) {
  const std::vector<std::string> keys = {"moe.router=soft_mixture", "moe.top_k=4"};
  const Config blended = tiny_moe_config(keys);
  const Config alone = tiny_moe_config({keys[0], keys[1], "moe.router.error=competitive"});
  EXPECT_EQ(count_parameters(alone).active, count_parameters(blended).active);
  // Three further products of [8 x 11], forward and backward.
  EXPECT_DOUBLE_EQ(training_flops_per_token(alone) - training_flops_per_token(blended), 3 * 3 * 2.0 * 8 * 11);
  EXPECT_GT(estimate_memory(alone).activations, estimate_memory(blended).activations);
}

TEST(Accounting, Gpt2ByHand) {
  // Its 124,439,808 published parameters: 50,257 and 1,024 embeddings, 12 layers of 12 D^2 + 13 D, the last norm.
  const Config config = tiny_config({"model.hidden_size=768", "model.num_layers=12", "model.num_attention_heads=12",
                                     "model.intermediate_size=3072", "model.vocab_size=50257", "model.activation=gelu",
                                     "model.normalization=layer_norm", "model.bias=true",
                                     "model.position_embedding=learned", "training.seq_length=1024"});
  EXPECT_EQ(count_parameters(config).total, 124439808);
  EXPECT_EQ(count_parameters(config).active, 124439808);
}

TEST(Accounting, LatentAttentionByHand) {
  // D = 8, 2 heads: queries 8 -> 7 -> 2 * (6 + 4), keys and values 8 -> 5 + 4 and 5 -> 2 * (6 + 3), output 6 -> 8.
  const Config config =
      tiny_config({"model.latent_attention={kv_lora_rank: 5, q_lora_rank: 7, qk_nope_head_dim: 6, "
                   "qk_rope_head_dim: 4, v_head_dim: 3}",
                   "training.seq_length=20"});
  const int64_t matrices = 8 * 7 + 7 * 20 + 8 * 9 + 5 * 18 + 6 * 8;
  const ComponentCost attention = component_costs(config)[1];
  EXPECT_EQ(attention.parameters.total, matrices + 7 + 5 + 8);  // two latent norms and the block's
  // Scores over 10 and mixing of 3 values a head, for the 10 positions that are seen on average.
  EXPECT_DOUBLE_EQ(attention.forward_flops, 2.0 * matrices + 2.0 * 2 * (10 + 3) * 10);
}

TEST(Accounting, WindowsLeaveOutFarPositions) {
  const auto attention = [](const std::vector<std::string>& window, const std::string& layer) {
    std::vector<std::string> overrides = {"training.seq_length=64"};
    overrides.insert(overrides.end(), window.begin(), window.end());
    return forward_flops(tiny_config(overrides), layer + " attention");
  };
  const double whole = attention({}, "layer 0");
  EXPECT_DOUBLE_EQ(attention({"model.sliding_window=64"}, "layer 0"), whole);
  EXPECT_DOUBLE_EQ(attention({"model.sliding_window=1000"}, "layer 0"), whole);
  // 16 of 64: 16 - 16^2 / 128 = 14 positions instead of 32, times 2 heads and 2 * (4 + 4) FLOP.
  EXPECT_DOUBLE_EQ(whole - attention({"model.sliding_window=16"}, "layer 0"), 18 * 2 * 16);
  EXPECT_DOUBLE_EQ(attention({"model.sliding_window=16", "model.sliding_window_layers=2"}, "layer 0"), whole);
  EXPECT_LT(attention({"model.sliding_window=16", "model.sliding_window_layers=2"}, "layer 1"), whole);
}

TEST(Accounting, ActiveExperts) {
  const int64_t expert = 3 * 8 * 5;
  const auto idle = [](const std::vector<std::string>& overrides) {
    const ParameterCount count = count_parameters(tiny_moe_config(overrides));
    return count.total - count.active;
  };
  EXPECT_EQ(idle({}), 2 * 2 * expert);  // 2 of 4 experts in 2 layers
  EXPECT_EQ(idle({"moe.first_k_dense=1", "moe.num_shared_experts=1"}), 2 * expert);
  EXPECT_EQ(idle({"moe.router=soft_mixture", "moe.top_k=4"}), 0);
  // Soft MoE computes as many rows as its slots: 4 experts of 2 * 6 / 4 slots are 2 a token of a sequence of 6.
  const Config soft = tiny_moe_config({"moe.router=soft_moe", "training.seq_length=6"});
  EXPECT_DOUBLE_EQ(forward_flops(soft, "layer 0 experts"), 2 * 2 * expert);
}

TEST(Accounting, DepthsSaveWhatPassesBy) {
  const std::vector<std::string> depths = {"mixture_of_depths={capacity_factor: 0.25, layer_freq: 2}",
                                           "training.seq_length=32"};
  EXPECT_EQ(depth_flops_saved_per_token(tiny_moe_config({"training.seq_length=32"})), 0);
  const Config config = tiny_moe_config(depths);
  const Config whole = tiny_moe_config({"training.seq_length=32"});
  for (const std::string part : {"attention", "router", "experts"}) {
    EXPECT_DOUBLE_EQ(forward_flops(config, "layer 0 " + part), forward_flops(whole, "layer 0 " + part));
  }
  EXPECT_DOUBLE_EQ(forward_flops(config, "layer 1 experts"), forward_flops(whole, "layer 1 experts") / 4);
  // A quarter of the queries sees a quarter of the positions: 4 of 16. Maps 4 * 8^2; 2 heads, 2 * (4 + 4) FLOP.
  EXPECT_DOUBLE_EQ(forward_flops(config, "layer 1 attention"), (2 * 256 + 4 * 2 * 16) / 4.0);
  EXPECT_DOUBLE_EQ(depth_flops_saved_per_token(config),
                   training_flops_per_token(whole) - training_flops_per_token(config));
  EXPECT_GT(depth_flops_saved_per_token(config), 0);
  EXPECT_LT(estimate_memory(config).activations, estimate_memory(whole).activations);
}

TEST(Accounting, BytesOfTheWeights) {
  const WeightBytes bytes = weight_bytes(reference_shape());
  const auto parameters = static_cast<double>(count_parameters(reference_shape()).total);
  EXPECT_DOUBLE_EQ(bytes.fp32, 4 * parameters);
  EXPECT_DOUBLE_EQ(bytes.bf16, 2 * parameters);
  EXPECT_DOUBLE_EQ(bytes.int8, parameters);
  EXPECT_DOUBLE_EQ(bytes.int4, parameters / 2);
}

TEST(Accounting, BytesOfTheStateByHand) {
  const auto memory = estimate_memory(reference_shape());
  const auto parameters = static_cast<double>(count_parameters(reference_shape()).total);
  EXPECT_DOUBLE_EQ(memory.weights, 4 * parameters);
  EXPECT_DOUBLE_EQ(memory.gradients, 4 * parameters);
  EXPECT_DOUBLE_EQ(memory.optimizer, 8 * parameters);
  EXPECT_GT(memory.activations, 0);
  // Gradients and activations are not at their most at the same time, but operations need some room.
  EXPECT_GT(memory.total, 12 * parameters + memory.activations);
  EXPECT_LT(memory.total, 16 * parameters + 1.2 * memory.activations);
}

TEST(Accounting, RecomputedFlopsByHand) {
  const auto again = [](const std::vector<std::string>& overrides, Recompute recompute) {
    Config config = tiny_moe_config(overrides);
    config.training.recompute = recompute;
    EXPECT_EQ(training_flops_per_token(config), training_flops_per_token(tiny_moe_config(overrides)));
    return recomputed_flops_per_token(config);
  };
  EXPECT_EQ(again({}, Recompute::kNone), 0);
  // Two layers, two experts of 8 x 5: gate and up, not down. A shared one counts like them. Without a gate only up.
  EXPECT_DOUBLE_EQ(again({}, Recompute::kSelective), 2.0 * 2 * 2 * (2 * 8 * 5));
  EXPECT_DOUBLE_EQ(again({"moe.num_shared_experts=1"}, Recompute::kSelective), 2.0 * 2 * 3 * (2 * 8 * 5));
  EXPECT_DOUBLE_EQ(again({"model.activation=gelu"}, Recompute::kSelective), 2.0 * 2 * 2 * (8 * 5));
  // One layer with a dense feed-forward of 8 x 6.
  EXPECT_DOUBLE_EQ(again({"moe.first_k_dense=1"}, Recompute::kSelective), 2.0 * (2 * (2 * 8 * 5) + 2 * 8 * 6));
  // The reference on CUDA runs again as a whole.
  EXPECT_DOUBLE_EQ(again({"training.device=cuda"}, Recompute::kSelective), 2.0 * 2 * 2 * (3 * 8 * 5));
  // All but the output projection.
  EXPECT_DOUBLE_EQ(again({}, Recompute::kFull), training_flops_per_token(tiny_moe_config({})) / 3 - 2.0 * 11 * 8);
}

TEST(Accounting, ActivationsGrowWithTheMicroBatch) {
  const auto activations = [](int64_t sequences) {
    Config config = reference_shape();
    config.training.micro_batch_size = sequences;
    return estimate_memory(config).activations;
  };
  // Beyond the constant part (casts and one chunk of logits), twice the sequences keep twice the activations.
  EXPECT_NEAR(activations(64) - activations(32), activations(96) - activations(64), 1);
  EXPECT_GT(activations(64), 1.5 * activations(32));
}

}  // namespace
}  // namespace switchyard::test
