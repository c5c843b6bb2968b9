// The rules that join several keys: message, and where it points.
#include <gtest/gtest.h>

#include "tests/config/helpers.h"

namespace switchyard {
namespace {

using config_test::error_of;

TEST(Rules, HeadsDivideTheHiddenSize) {
  EXPECT_EQ(
      error_of("model:\n  hidden_size: 100\n  num_attention_heads: 3\n"),
      "c.yaml:3:24: key 'model.num_attention_heads' is 3, which does not divide model.hidden_size 100; change one "
      "of them or give model.head_dim");
  EXPECT_EQ(
      error_of("model:\n  hidden_size: 102\n"),
      "c.yaml:2:16: key 'model.num_attention_heads' is 4, which does not divide model.hidden_size 102; change one "
      "of them or give model.head_dim");
  EXPECT_EQ(error_of("model: {hidden_size: 100, num_attention_heads: 3, head_dim: 32}"), "");
}

TEST(Rules, HeadsAreEven) {
  EXPECT_EQ(error_of("model: {hidden_size: 12, num_attention_heads: 4}"),
            "c.yaml:1:47: key 'model.num_attention_heads' makes heads of width 3; the rotary embedding needs an even "
            "width");
  EXPECT_EQ(error_of("model: {head_dim: 33}"),
            "c.yaml:1:19: key 'model.head_dim' is 33; the rotary embedding needs an even width");
}

TEST(Rules, KeyValueHeadsDivideTheHeads) {
  EXPECT_EQ(error_of("model: {num_attention_heads: 8, num_key_value_heads: 3}"),
            "c.yaml:1:54: key 'model.num_key_value_heads' is 3, which does not divide model.num_attention_heads 8");
  EXPECT_EQ(error_of("model: {num_attention_heads: 8, num_key_value_heads: 16}"),
            "c.yaml:1:54: key 'model.num_key_value_heads' is 16, which does not divide model.num_attention_heads 8");
  EXPECT_EQ(error_of("model: {num_attention_heads: 8, num_key_value_heads: 2}"), "");
}

TEST(Rules, TopKIsAtMostTheExperts) {
  EXPECT_EQ(error_of("moe: {num_experts: 2, top_k: 3}"),
            "c.yaml:1:30: key 'moe.top_k' is 3, more than moe.num_experts 2");
  EXPECT_EQ(error_of("moe: {num_experts: 1}"), "c.yaml:1:20: key 'moe.top_k' is 2, more than moe.num_experts 1");
  EXPECT_EQ(error_of("moe: {num_experts: 2, top_k: 2}"), "");
}

TEST(Rules, BatchesAreWhole) {
  EXPECT_EQ(
      error_of("training: {micro_batch_size: 4, global_batch_size: 6}"),
      "c.yaml:1:52: key 'training.global_batch_size' is 6, which is not a multiple of training.micro_batch_size 4");
  EXPECT_EQ(
      error_of("training: {micro_batch_size: 4, global_batch_size: 2}"),
      "c.yaml:1:52: key 'training.global_batch_size' is 2, which is not a multiple of training.micro_batch_size 4");
  EXPECT_EQ(error_of("training: {micro_batch_size: 4, global_batch_size: 12}"), "");
}

TEST(Rules, LayerListHasOneEntryPerLayer) {
  EXPECT_EQ(error_of("moe: {layer_freq: [0, 1]}"),
            "c.yaml:1:19: key 'moe.layer_freq' has 2 entries for 4 layers (model.num_layers)");
  EXPECT_EQ(error_of("moe: {layer_freq: [1]}"),
            "c.yaml:1:19: key 'moe.layer_freq' has 1 entries for 4 layers (model.num_layers)");
  EXPECT_EQ(error_of("moe: {layer_freq: [0, 1, 0, 1]}"), "");
}

TEST(Rules, SomeLayerHasExperts) {
  EXPECT_EQ(error_of("moe: {layer_freq: [0, 0, 0, 0]}"),
            "c.yaml:1:19: key 'moe.layer_freq' leaves no layer with experts; for a dense model write 'moe: null'");
  EXPECT_EQ(error_of("moe: {layer_freq: 5}"),
            "c.yaml:1:19: key 'moe.layer_freq' is 5, which leaves no layer with experts among 4; for a dense model "
            "write 'moe: null'");
  EXPECT_EQ(error_of("model: {num_layers: 1}\nmoe: {layer_freq: [0]}"),
            "c.yaml:2:19: key 'moe.layer_freq' leaves no layer with experts; for a dense model write 'moe: null'");
}

TEST(Rules, WarmupMayBeLongerThanAShortenedRun) {
  EXPECT_EQ(error_of("schedule: {warmup_steps: 100}\ntraining: {max_steps: 10}"), "");
  EXPECT_EQ(error_of("schedule: {warmup_steps: 100, type: wsd, decay_steps: 20}\ntraining: {max_steps: 10}"), "");
}

TEST(Rules, ASingleChoiceNeedsTheSoftmaxBefore) {
  EXPECT_EQ(
      error_of("moe: {top_k: 1, router: {type: top_k, softmax: after}}"),
      "c.yaml:1:48: key 'moe.router.softmax' is after, but with moe.top_k 1 the only weight would always be 1 and "
      "the router would learn nothing from the language-model loss; use before");
  EXPECT_EQ(error_of("moe: {top_k: 2, router: {type: top_k, softmax: after}}"), "");
}

TEST(Rules, DecayFitsTheRun) {
  EXPECT_EQ(error_of("schedule: {warmup_steps: 10, decay_steps: 10}"),
            "c.yaml:1:43: key 'schedule.decay_steps' is 10; it must be above schedule.warmup_steps, which is 10");
  EXPECT_EQ(error_of("schedule: {type: wsd, warmup_steps: 600, decay_steps: 401}"),
            "c.yaml:1:55: key 'schedule.decay_steps' is 401; with schedule.warmup_steps 600 that is more than "
            "training.max_steps 1000");
  EXPECT_EQ(error_of("schedule: {type: wsd, warmup_steps: 600, decay_steps: 400}"), "");
  EXPECT_EQ(error_of("schedule: {decay_steps: 500}"), "");
}

TEST(Rules, LeastLearningRateIsBelowThePeak) {
  EXPECT_EQ(error_of("optimizer: {lr: 1e-3}\nschedule: {min_lr: 0.01}"),
            "c.yaml:2:20: key 'schedule.min_lr' is 0.01, above optimizer.lr 0.001");
  EXPECT_EQ(error_of("optimizer: {lr: 0.01}\nschedule: {min_lr: 0.01}"), "");
}

TEST(Rules, RanksShareTheExpertsEvenly) {
  EXPECT_EQ(error_of("moe: {num_experts: 8}\nparallel: {expert_parallel_size: 3}"),
            "c.yaml:2:34: key 'parallel.expert_parallel_size' is 3, which does not divide moe.num_experts 8");
  EXPECT_EQ(error_of("parallel: {expert_parallel_size: 2}"),
            "c.yaml:1:34: key 'parallel.expert_parallel_size' is 2, but there are no experts without a section 'moe'");
  EXPECT_EQ(error_of("moe: {num_experts: 8}\nparallel: {expert_parallel_size: 4}"), "");
}

TEST(Rules, SourceNamesDiffer) {
  EXPECT_EQ(error_of("data:\n  sources:\n  - {name: a, files: [x]}\n  - {name: b, files: [x]}\n"
                     "  - {name: a, files: [y]}\n"),
            "c.yaml:5:12: key 'data.sources.2.name' is 'a', the name of data.sources.0 too; names must differ");
}

TEST(Rules, SomeSourceHasWeight) {
  EXPECT_EQ(error_of("data: {sources: [{name: a, files: [x], weight: 0}, {name: b, files: [x], weight: 0}]}"),
            "c.yaml:1:17: key 'data.sources' has only sources of weight 0; at least one must have a weight above 0");
  EXPECT_EQ(error_of("data: {sources: [{name: a, files: [x], weight: 0}, {name: b, files: [x]}]}"), "");
}

TEST(Rules, SoftmaxAfterSelectionIsNormalized) {
  EXPECT_EQ(error_of("moe: {router: {softmax: after, normalize: false}}"),
            "c.yaml:1:43: key 'moe.router.normalize' is false, but with moe.router.softmax 'after' the weights sum to "
            "one already; leave it out");
  EXPECT_EQ(error_of("moe: {router: {softmax: after}}"), "");
  EXPECT_EQ(error_of("moe: {router: {softmax: before, normalize: false}}"), "");
}

TEST(Rules, KeysOfAnotherRouterAreRefused) {
  EXPECT_EQ(
      error_of("moe: {router: {type: expert_choice, jitter: 0.1}}"),
      "c.yaml:1:45: key 'moe.router.jitter' has no effect with moe.router.type expert_choice; that one's keys are "
      "init_scale, choice_scope, causal_form, momentum");
  EXPECT_EQ(error_of("moe: {router: {type: hash, scale: 2.0}}"),
            "c.yaml:1:35: key 'moe.router.scale' has no effect with moe.router.type hash, which has no keys");
  EXPECT_EQ(error_of("moe: {router: {type: hash, scale: 1.0}}"), "");  // as it is anyway
  EXPECT_EQ(error_of("moe: {router: {type: random, momentum: 0.5}}"),
            "c.yaml:1:40: key 'moe.router.momentum' has no effect with moe.router.type random, which has no keys");
  EXPECT_EQ(error_of("moe: {router: {type: sinkhorn, momentum: 0.5}}"),
            "c.yaml:1:42: key 'moe.router.momentum' has no effect with moe.router.type sinkhorn; that one's keys are "
            "init_scale, sinkhorn_iterations");
  EXPECT_EQ(error_of("moe: {router: {type: quantile, choice_scope: batch}}"),
            "c.yaml:1:46: key 'moe.router.choice_scope' has no effect with moe.router.type quantile; that one's keys "
            "are init_scale, momentum");
  EXPECT_EQ(error_of("moe: {router: {type: soft_moe, causal_form: none}}"),
            "c.yaml:1:45: key 'moe.router.causal_form' has no effect with moe.router.type soft_moe; that one's keys "
            "are init_scale, slots_per_expert");
  EXPECT_EQ(error_of("moe: {router: {slots_per_expert: 4}}").substr(0, 88),
            "c.yaml:1:34: key 'moe.router.slots_per_expert' has no effect with moe.router.type top_k;");
}

TEST(Rules, SlotsOfSoftMoe) {
  EXPECT_EQ(error_of("moe: {router: {type: soft_moe, slots_per_expert: 0}}"),
            "c.yaml:1:50: key 'moe.router.slots_per_expert' is 0; it must be at least 1 and at most 16777216");
  EXPECT_EQ(error_of("moe: {router: {type: soft_moe, init_scale: 0}}"),
            "c.yaml:1:44: key 'moe.router.init_scale' is 0, but the slots of moe.router.type soft_moe would then be "
            "and stay alike; write a number above 0");
  EXPECT_EQ(error_of("moe: {eval_capacity_factor: 1.0, router: soft_moe}"),
            "c.yaml:1:29: key 'moe.eval_capacity_factor' has no meaning with moe.router.type soft_moe, whose experts "
            "get an even share by construction; moe.top_k sets its size");
  // 2^16 experts of 2^24 slots of width 2^20 in 4 layers.
  const std::string many = error_of(
      "model: {hidden_size: 1048576, num_attention_heads: 1024}\n"
      "moe: {num_experts: 65536, intermediate_size: 1, router: {type: soft_moe, slots_per_expert: 16777216}}");
  EXPECT_NE(many.find("describes about 4.6E parameters"), std::string::npos) << many;
  EXPECT_EQ(error_of("moe: {router: {type: soft_moe, slots_per_expert: 4}}"), "");
}

TEST(Rules, SchemesAndNumbersOfExperts) {
  EXPECT_EQ(error_of("moe: {router: switch}"),
            "c.yaml:1:15: key 'moe.top_k' is 2, but moe.router.type switch sends each token to 1 expert");
  EXPECT_EQ(error_of("moe: {top_k: 4, router: soft_mixture}"),
            "c.yaml:1:14: key 'moe.top_k' is 4, but with moe.router.type soft_mixture every token sees all 8 experts "
            "(moe.num_experts); write that number");
  EXPECT_EQ(
      error_of("moe: {top_k: 8, router: noisy_top_k}"),
      "c.yaml:1:14: key 'moe.top_k' is all of moe.num_experts, but the load of moe.router.type noisy_top_k needs an "
      "expert left out");
  EXPECT_EQ(
      error_of("moe: {capacity_factor: 1.0, router: expert_choice}"),
      "c.yaml:1:24: key 'moe.capacity_factor' has no meaning with moe.router.type expert_choice, whose experts get "
      "an even share by construction; moe.top_k sets its size");
  EXPECT_EQ(error_of("moe: {top_k: 3, router: {second_expert: random}}"),
            "c.yaml:1:41: key 'moe.router.second_expert' is random, which needs moe.top_k 2");
  EXPECT_EQ(error_of("moe: {router: {type: threshold, max_experts: 1}}"),
            "c.yaml:1:46: key 'moe.router.max_experts' is 1; it must be from moe.top_k 2 to moe.num_experts 8");
}

TEST(Rules, ExpertsCompeteInTheLastLayerOfASoftMixture) {
  const auto error = [](const std::string& moe, const std::string& rest = "") {
    return error_of("moe: {top_k: 8, " + moe + "router: {type: soft_mixture, error: competitive}}\n" + rest);
  };
  EXPECT_EQ(error(""), "");
  EXPECT_EQ(error("layer_freq: [0, 0, 0, 1], "), "");
  EXPECT_NE(error("layer_freq: [1, 1, 1, 0], ").find("'moe.router.error' is competitive, but the last layer has no"),
            std::string::npos);
  EXPECT_NE(error("", "mixture_of_depths: {layer_freq: 2}\n").find("some tokens skip the last layer"),
            std::string::npos);
  EXPECT_EQ(error("", "mixture_of_depths: {layer_freq: [0, 1, 0, 0]}\n"), "");
  EXPECT_NE(error_of("moe: {router: {error: competitive}}").find("has no effect with moe.router.type top_k"),
            std::string::npos);
}

TEST(Rules, SchemesThatNeedSeveralExpertsATokenToLearn) {
  EXPECT_EQ(error_of("moe: {top_k: 1, router: noisy_top_k}"),
            "c.yaml:1:14: key 'moe.top_k' is 1, but the softmax of moe.router.type noisy_top_k over 1 expert is always "
            "1 and the router would learn nothing from the language-model loss; use 2 or more, or moe.router.type "
            "switch");
  EXPECT_EQ(error_of("moe: {top_k: 1, router: {type: threshold, normalize: true}}"),
            "c.yaml:1:54: key 'moe.router.normalize' is true, but with moe.top_k 1 most tokens' only weight would be 1 "
            "and the router would learn nothing from the language-model loss; use false");
  EXPECT_EQ(error_of("moe: {top_k: 1, router: {type: threshold, normalize: false}}"), "");
}

TEST(Rules, GroupsOfExperts) {
  EXPECT_EQ(error_of("moe: {router: {num_groups: 3}}"),
            "c.yaml:1:28: key 'moe.router.num_groups' is 3, which does not divide moe.num_experts 8");
  EXPECT_EQ(error_of("moe: {router: {num_groups: 2, top_groups: 3}}"),
            "c.yaml:1:43: key 'moe.router.top_groups' is 3, more than moe.router.num_groups 2");
  EXPECT_EQ(error_of("moe: {top_k: 3, router: {num_groups: 4}}"),
            "c.yaml:1:14: key 'moe.top_k' is 3, more than the 2 experts of moe.router.top_groups 1");
  EXPECT_EQ(error_of("moe: {top_k: 3, router: {type: hierarchical, num_groups: 2, top_groups: 2}}"),
            "c.yaml:1:14: key 'moe.top_k' is 3, which is not a multiple of moe.router.top_groups 2: every chosen group "
            "gives as many experts");
  EXPECT_EQ(error_of("moe: {router: hierarchical}"),
            "c.yaml:1:15: key 'moe.router.num_groups' is 1; moe.router.type hierarchical needs at least 2 groups");
  EXPECT_EQ(error_of("moe: {router: {num_groups: 8, top_groups: 2, group_score: top_two_sum}}"),
            "c.yaml:1:59: key 'moe.router.group_score' is top_two_sum, but the groups hold 1 expert each; use max");
}

TEST(Rules, LatentAttention) {
  EXPECT_EQ(
      error_of("model: {latent_attention: {qk_rope_head_dim: 3}}"),
      "c.yaml:1:46: key 'model.latent_attention.qk_rope_head_dim' is 3; the rotary embedding needs an even width");
  EXPECT_EQ(error_of("model: {head_dim: 64, latent_attention: {qk_nope_head_dim: 32, qk_rope_head_dim: 16}}"),
            "c.yaml:1:19: key 'model.head_dim' is 64, but with latent attention a head has qk_nope_head_dim + "
            "qk_rope_head_dim = 48; leave it out");
  EXPECT_EQ(error_of("model: {hidden_size: 100, num_attention_heads: 3, latent_attention: {}}"), "");
}

TEST(Rules, LayersThatTokensSkip) {
  EXPECT_EQ(
      error_of("mixture_of_depths: {layer_freq: 9}"),
      "c.yaml:1:33: key 'mixture_of_depths.layer_freq' is 9, which leaves no layer that tokens skip among 4; write "
      "'mixture_of_depths: null'");
  EXPECT_EQ(
      error_of("moe: {first_k_dense: 4}"),
      "c.yaml:1:22: key 'moe.first_k_dense' is 4, which leaves no layer with experts; for a dense model write 'moe: "
      "null'");
}

TEST(Rules, ProductsStayInside64Bits) {
  // 16384 layers x 2^20 x 3 x 65536 experts x 2^24 = 5.7e22 parameters; 16 x 256 tokens x 16384 layers x (12 x 2^20 +
  // 9 x 2^24) = 1.1e16 activations; 1e12 steps x 2^24 sequences x 256 = 4.3e21 tokens.
  EXPECT_EQ(error_of("model: {hidden_size: 1048576, num_layers: 16384, intermediate_size: 16777216, "
                     "num_attention_heads: 1024}\nmoe: {num_experts: 65536}\n"),
            "c.yaml:1:8: key 'model' describes about 56669E parameters; more than 1.0P are not supported\n"
            "c.yaml:1:8: key 'training.micro_batch_size' makes about 11.0P activations in one forward pass; more than "
            "10.0P are not supported");
  EXPECT_EQ(error_of("training: {max_steps: 1000000000000, micro_batch_size: 16777216}"),
            "c.yaml:1:23: key 'training.max_steps' makes a run of about 4295E tokens; more than 4.0E are not "
            "supported");
}

TEST(Rules, ProblemsOfDefaultsPointAtTheSectionOrTheFile) {
  // The first problem's key is not in the file; an override moved the other one.
  EXPECT_EQ(error_of("run: {seed: 1}\n", {"model.hidden_size=102"}),
            "override 'model.hidden_size=102': key 'model.num_attention_heads' is 4, which does not divide "
            "model.hidden_size 102; change one of them or give model.head_dim");
}

}  // namespace
}  // namespace switchyard
