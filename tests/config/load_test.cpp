// What valid configurations mean: values, defaults, what follows from other keys, paths.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/config/helpers.h"

namespace switchyard {
namespace {

using config_test::error_of;
using config_test::kSample;
using config_test::parse;
using config_test::write_text;
using test::TemporaryFolder;

TEST(Load, SampleHasTheValuesItSays) {
  const Config c = parse(kSample);
  EXPECT_EQ(c.run.dir, "runs/demo");
  EXPECT_EQ(c.run.seed, 1);
  EXPECT_EQ(c.model.hidden_size, 128);
  EXPECT_EQ(c.model.intermediate_size, 384);
  ASSERT_TRUE(c.moe.has_value());
  EXPECT_EQ(c.moe->num_experts, 8);
  EXPECT_EQ(c.moe->intermediate_size, 192);
  EXPECT_EQ(c.moe->z_loss_coeff, 0.001);
  EXPECT_EQ(c.data.tokenizer, "char");
  ASSERT_EQ(c.data.sources.size(), 1U);
  EXPECT_EQ(c.data.sources[0].name, "shakespeare");
  EXPECT_EQ(c.data.sources[0].files, std::vector<std::string>{"/conf/texts/*.txt"});
  EXPECT_EQ(c.data.sources[0].weight, 1.0);
  EXPECT_EQ(c.training.max_steps, 2000);
  EXPECT_EQ(c.optimizer.beta2, 0.99);
  EXPECT_EQ(c.schedule.min_lr, 1e-4);
  EXPECT_EQ(c.checkpoint.keep_last, 2);
}

TEST(Load, EveryWordOfEveryChoiceIsRead) {
  const auto router = [](const std::string& keys) { return parse("moe: {router: {" + keys + "}}").moe->router; };
  EXPECT_EQ(router("type: top_k").type, RouterType::kTopK);
  EXPECT_EQ(router("softmax: before").softmax, SoftmaxOrder::kBefore);
  EXPECT_EQ(router("softmax: after").softmax, SoftmaxOrder::kAfter);
  const auto moe = [](const std::string& keys) { return *parse("moe: {" + keys + "}").moe; };
  EXPECT_EQ(moe("aux_loss_scope: micro_batch").aux_loss_scope, AuxLossScope::kMicroBatch);
  EXPECT_EQ(moe("aux_loss_scope: sequence").aux_loss_scope, AuxLossScope::kSequence);
  EXPECT_EQ(moe("aux_loss_scope: global_batch").aux_loss_scope, AuxLossScope::kGlobalBatch);
  EXPECT_EQ(moe("drop_policy: probability").drop_policy, DropPolicy::kProbability);
  EXPECT_EQ(moe("drop_policy: position").drop_policy, DropPolicy::kPosition);
  const auto documents = [](const std::string& word) {
    return parse("data: {sources: [{name: a, files: [b], documents: " + word + "}]}").data.sources[0].documents;
  };
  EXPECT_EQ(documents("file"), DocumentRule::kFile);
  EXPECT_EQ(documents("entry"), DocumentRule::kEntry);
  const auto training = [](const std::string& keys) { return parse("training: {" + keys + "}").training; };
  EXPECT_EQ(training("precision: fp32").precision, Precision::kFp32);
  EXPECT_EQ(training("precision: bf16").precision, Precision::kBf16);
  EXPECT_EQ(training("device: auto").device, DeviceKind::kAuto);
  EXPECT_EQ(training("device: cpu").device, DeviceKind::kCpu);
  EXPECT_EQ(training("device: cuda").device, DeviceKind::kCuda);
  EXPECT_EQ(training("spike: {action: off}").spike.action, SpikeAction::kOff);
  EXPECT_EQ(training("spike: {action: warn}").spike.action, SpikeAction::kWarn);
  EXPECT_EQ(training("spike: {action: skip}").spike.action, SpikeAction::kSkip);
  const auto schedule = [](const std::string& word) { return parse("schedule: {type: " + word + "}").schedule.type; };
  EXPECT_EQ(schedule("cosine"), ScheduleType::kCosine);
  EXPECT_EQ(schedule("linear"), ScheduleType::kLinear);
  EXPECT_EQ(schedule("constant"), ScheduleType::kConstant);
  EXPECT_EQ(schedule("wsd"), ScheduleType::kWsd);
}

TEST(Load, MissingKeysFollowFromOthers) {
  const Config c = parse("model: {hidden_size: 100, num_attention_heads: 5}\nmoe: {capacity_factor: 1.25}\n");
  EXPECT_EQ(c.model.num_key_value_heads, 5);
  EXPECT_EQ(c.model.head_dim, 20);
  EXPECT_EQ(c.model.intermediate_size, 320);  // 8/3 of 100 is 266.7
  EXPECT_EQ(c.moe->intermediate_size, 320);
  EXPECT_EQ(c.training.global_batch_size, 16);
  EXPECT_FALSE(c.schedule.decay_steps.has_value());
  EXPECT_FALSE(c.model.vocab_size);
}

TEST(Load, IntermediateSizeIsTheNextMultipleOf64) {
  const auto width = [](int64_t hidden) {
    return parse("model: {hidden_size: " + std::to_string(hidden) + ", num_attention_heads: 1}")
        .model.intermediate_size;
  };
  EXPECT_EQ(width(24), 64);    // 64 exactly
  EXPECT_EQ(width(26), 128);   // 69.3
  EXPECT_EQ(width(256), 704);  // 682.7
  EXPECT_EQ(width(4096), 10944);
}

TEST(Load, EvaluationIsDroplessUnlessAsked) {
  EXPECT_FALSE(parse("moe: {}").moe->eval_capacity_factor.has_value());
  EXPECT_FALSE(parse("moe: {capacity_factor: 1}").moe->eval_capacity_factor.has_value());
  EXPECT_EQ(parse("moe: {capacity_factor: 1, eval_capacity_factor: 2}").moe->eval_capacity_factor, 2.0);
}

TEST(Load, NullMeansNotGiven) {
  EXPECT_FALSE(parse("moe: null").moe.has_value());
  EXPECT_FALSE(parse("moe: ~").moe.has_value());
  EXPECT_FALSE(parse("moe:\nrun: {seed: 2}").moe.has_value());
  EXPECT_TRUE(parse("moe: {}").moe.has_value());
  EXPECT_EQ(parse("model: {head_dim: null, num_key_value_heads: ~}").model.head_dim, 64);
  EXPECT_EQ(parse("training:\n  # all defaults\nrun: {seed: 2}").training.max_steps, 1000);
  EXPECT_TRUE(parse("data: {sources: null}").data.sources.empty());
}

TEST(Load, RouterIsANameOrAMap) {
  EXPECT_EQ(parse("moe: {router: top_k}").moe->router.type, RouterType::kTopK);
  EXPECT_EQ(parse("moe: {router: {type: top_k, jitter: 0.1}}").moe->router.jitter, 0.1);
  EXPECT_EQ(
      error_of("moe:\n  router: topk\n"),
      "c.yaml:2:11: key 'moe.router.type' needs top_k, switch, noisy_top_k, hierarchical, soft_mixture, expert_choice, "
      "threshold, hash, random, sinkhorn, quantile or soft_moe, found 'topk'; did you mean 'top_k'?");
  EXPECT_EQ(error_of("moe: {router: [1]}"),
            "c.yaml:1:15: key 'moe.router' needs a name or a map of keys, found a list");
}

TEST(Load, LayerFrequencyChoosesTheLayers) {
  const auto layers = [](const std::string& freq) {
    const Config c = parse("model: {num_layers: 4}\nmoe: {layer_freq: " + freq + "}");
    std::string pattern;
    for (int64_t layer = -1; layer <= 4; ++layer) {
      pattern += is_moe_layer(c, layer) ? '1' : '0';
    }
    return pattern;  // with the layers before the first and after the last, which are none
  };
  EXPECT_EQ(layers("1"), "011110");
  EXPECT_EQ(layers("2"), "001010");
  EXPECT_EQ(layers("3"), "000100");
  EXPECT_EQ(layers("4"), "000010");
  EXPECT_EQ(layers("[1, 0, 0, 1]"), "010010");
  EXPECT_FALSE(is_moe_layer(parse("run: {}"), 0));
  EXPECT_TRUE(is_moe_layer(parse("model: {num_layers: 1}\nmoe: {layer_freq: [1]}"), 0));
}

TEST(Load, NumbersInTheirNotations) {
  EXPECT_EQ(parse("optimizer: {lr: 1e-3}").optimizer.lr, 1e-3);
  EXPECT_EQ(parse("optimizer: {lr: .5}").optimizer.lr, 0.5);
  EXPECT_EQ(parse("optimizer: {lr: 2}").optimizer.lr, 2.0);
  EXPECT_EQ(parse("optimizer: {lr: 1.E+2}").optimizer.lr, 100.0);
  EXPECT_EQ(parse("run: {seed: 9223372036854775807}").run.seed, INT64_MAX);
}

TEST(Load, StringsAreAnyScalar) {
  EXPECT_EQ(parse("run: {dir: 12}").run.dir, "12");
  EXPECT_EQ(parse("run: {dir: true}").run.dir, "true");
  EXPECT_EQ(parse("run: {dir: 'null'}").run.dir, "null");
  EXPECT_EQ(parse("run: {dir: \"a # b: c\"}").run.dir, "a # b: c");
  EXPECT_EQ(parse("run:\n  dir: größe/値\n").run.dir, "größe/値");
}

TEST(Load, WindowsLineEndsAndByteOrderMark) { EXPECT_EQ(parse("\xef\xbb\xbfrun:\r\n  seed: 7\r\n").run.seed, 7); }

TEST(Load, TrillionsOfParametersAreValid) {
  // Switch-C (Fedus et al. 2022, table 9): 1.6e12 parameters, 2048 experts.
  const Config c = parse(R"(model: {hidden_size: 2080, num_layers: 15, num_attention_heads: 32, head_dim: 64,
  intermediate_size: 6144, vocab_size: 32128}
moe: {num_experts: 2048, top_k: 1, intermediate_size: 6144}
parallel: {expert_parallel_size: 2048}
)");
  EXPECT_EQ(c.moe->num_experts, 2048);
  EXPECT_EQ(error_of("model: {hidden_size: 65536, num_layers: 512, num_attention_heads: 512}\n"
                     "moe: {num_experts: 128, top_k: 8, intermediate_size: 65536}"),
            "");
}

TEST(Load, RelativePathsStartAtTheFileThatSaysThem) {
  TemporaryFolder folder;
  write_text(folder, "presets/base.yaml", "data: {tokenizer: 'sentencepiece:tok.model'}\n");
  const auto file =
      write_text(folder, "runs/a.yaml",
                 "extends: ../presets/base.yaml\ndata: {sources: [{name: a, files: ['../t/*.txt', /abs/x, '~/y']}]}\n");
  ASSERT_EQ(setenv("HOME", "/home/someone", 1), 0);
  const std::string root = folder.path().string();
  const Config c = load_config(file);
  EXPECT_EQ(c.data.tokenizer, "sentencepiece:" + root + "/presets/tok.model");
  EXPECT_EQ(c.data.sources[0].files, (std::vector<std::string>{root + "/t/*.txt", "/abs/x", "/home/someone/y"}));
  const Config overridden = load_config(file, {"data.sources.0.files=[z.txt]", "data.tokenizer=sentencepiece:m"});
  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(overridden.data.sources[0].files, std::vector<std::string>{here + "/z.txt"});
  EXPECT_EQ(overridden.data.tokenizer, "sentencepiece:" + here + "/m");
}

TEST(Load, EnvironmentIsNotExpanded) { EXPECT_EQ(parse("run: {dir: '${HOME}/x'}").run.dir, "${HOME}/x"); }

TEST(Load, HomeMustBeKnownWhereItIsUsed) {
  const std::string home = std::getenv("HOME") == nullptr ? "/" : std::getenv("HOME");
  ASSERT_EQ(unsetenv("HOME"), 0);
  EXPECT_EQ(error_of("data: {sources: [{name: a, files: [~/x]}]}"),
            "c.yaml:1:36: key 'data.sources.0.files.0' starts with '~/', but HOME is not set");
  ASSERT_EQ(setenv("HOME", home.c_str(), 1), 0);
}

TEST(Load, MissingFileIsAConfigError) {
  TemporaryFolder folder;
  const auto missing = folder.path() / "none.yaml";
  try {
    load_config(missing);
    FAIL() << "loaded a file that is not there";
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(missing.string()), std::string::npos) << message;
    EXPECT_NE(message.find("No such file"), std::string::npos) << message;
  }
  EXPECT_THROW(load_config(folder.path()), ConfigError);
}

TEST(Load, FileNameStandsInMessages) {
  TemporaryFolder folder;
  const auto file = write_text(folder, "a.yaml", "run:\n  sed: 1\n");
  try {
    load_config(file);
    FAIL() << "an unknown key was accepted";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.what(), file.string() + ":2:3: key 'run.sed' is not known here; did you mean 'seed'?");
  }
}

}  // namespace
}  // namespace switchyard
