#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "base/errors.h"
#include "checkpoint/huggingface/config_json.h"
#include "checkpoint/huggingface/convert.h"
#include "tests/checkpoint/example_checkpoint.h"
#include "tests/checkpoint/huggingface_models.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using test::expect_equal;
using test::family_config;
using test::message_of;
using test::random_model;
using test::slurp;
using test::spill;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr HfFamily kSmall = HfFamily::kLlama;

std::string import_error(const fs::path& folder) {
  return message_of<CheckpointError>([&] { import_hf_model(folder); });
}

// A folder of one family that a test may change.
class Exported {
 public:
  explicit Exported(HfFamily family, uint64_t shard_bytes = kHfShardBytes)
      : family_(family), config_(family_config(family)), model_(random_model(family, config_)) {
    export_hf_model(path(), family, config_, model_, 3, {}, shard_bytes);
  }

  fs::path path() const { return folder_ / "hf"; }
  const Config& config() const { return config_; }
  const TensorMap& model() const { return model_; }
  TensorMap tensors() const { return SafetensorsFile(path() / "model.safetensors").load_all(); }
  void replace_tensors(const TensorMap& tensors) { write_safetensors(path() / "model.safetensors", tensors); }
  Json json(const char* name = "config.json") const { return Json::parse(slurp(path() / name)); }
  void replace_json(const Json& json, const char* name = "config.json") { spill(path() / name, json.dump()); }

 private:
  TemporaryFolder folder_{test::memory_folder()};
  HfFamily family_;
  Config config_;
  TensorMap model_;
};

class HfRoundTrip : public ::testing::TestWithParam<HfFamily> {};

TEST_P(HfRoundTrip, IsBitExact) {
  const Exported exported(GetParam());
  const ImportedModel imported = import_hf_model(exported.path());
  EXPECT_EQ(imported.family, GetParam());
  expect_equal(imported.model, exported.model());
  for (const ConfigDifference& difference : compare_configs(exported.config(), imported.config)) {
    EXPECT_THAT(difference.key, ::testing::AnyOf("moe.aux_loss_coeff", "moe.aux_loss_layers", "moe.layer_freq",
                                                 "moe.router.normalize", "model.intermediate_size"))
        << difference.before << " became " << difference.after;
  }
  const fs::path again = exported.path().parent_path() / "again";
  export_hf_model(again, GetParam(), imported.config, imported.model, 3, {});
  EXPECT_EQ(slurp(again / "model.safetensors"), slurp(exported.path() / "model.safetensors"));
  EXPECT_EQ(slurp(again / "config.json"), slurp(exported.path() / "config.json"));
}

TEST_P(HfRoundTrip, ThroughSeveralFiles) {
  const Exported exported(GetParam(), /*shard_bytes=*/3000);
  EXPECT_FALSE(fs::exists(exported.path() / "model.safetensors"));
  std::set<std::string> files;
  const Json index = exported.json("model.safetensors.index.json");
  for (const auto& [tensor, file] : index.at("weight_map").items()) {
    files.insert(file.get<std::string>());
  }
  EXPECT_GT(files.size(), 2U);
  EXPECT_THAT(*files.begin(), HasSubstr("model-00001-of-000"));
  expect_equal(import_hf_model(exported.path()).model, exported.model());
}

TEST_P(HfRoundTrip, NamesMissingLeftOverAndMisshapenTensors) {
  Exported exported(GetParam());
  const TensorMap all = exported.tensors();
  for (const auto& [name, tensor] : all) {
    TensorMap changed = all;
    changed.erase(name);
    exported.replace_tensors(changed);
    EXPECT_THAT(import_error(exported.path()), HasSubstr("'" + name + "' is missing"));
  }
  TensorMap changed = all;
  changed["model.extra.weight"] = torch::zeros({2});
  exported.replace_tensors(changed);
  EXPECT_THAT(import_error(exported.path()), HasSubstr("'model.extra.weight' is left over"));
  changed = all;
  const std::string name = changed.begin()->first;
  changed[name] = torch::zeros({1, 2, 3});
  exported.replace_tensors(changed);
  EXPECT_THAT(import_error(exported.path()), HasSubstr("'" + name + "' is [1, 2, 3] instead of ["));
}

INSTANTIATE_TEST_SUITE_P(Families, HfRoundTrip, ::testing::ValuesIn(hf_families()),
                         [](const auto& info) { return model_type_of(info.param); });

TEST(HfExport, NamesWhatTheCheckpointLacksOrHasTooMany) {
  const TemporaryFolder folder;
  const Config config = family_config(kSmall);
  TensorMap model = random_model(kSmall, config);
  model.erase("layers.1.attention.o_proj");
  model["extra"] = torch::zeros({2});
  model["norm"] = torch::zeros({5});
  const std::string error =
      message_of<CheckpointError>([&] { export_hf_model(folder / "hf", kSmall, config, model, 0, {}); });
  EXPECT_THAT(error, AllOf(HasSubstr("'layers.1.attention.o_proj' is missing"), HasSubstr("'extra' is left over"),
                           HasSubstr("'norm' is [5] instead of [12]")));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(HfExport, WritesNewFoldersOnlyAndLeavesNothingBehind) {
  const Exported exported(kSmall);
  const auto export_to = [&](const fs::path& path, std::map<std::string, std::string> files) {
    return message_of<CheckpointError>(
        [&] { export_hf_model(path, kSmall, exported.config(), exported.model(), 0, std::move(files)); });
  };
  EXPECT_THAT(export_to(exported.path(), {}), HasSubstr("exists already"));
  EXPECT_THAT(export_to(exported.path().string() + "/", {}), HasSubstr("exists already"));
  const fs::path parent = exported.path().parent_path();
  EXPECT_NE(export_to(parent / "other", {{"no/such/folder", "text"}}), "");
  EXPECT_EQ(std::distance(fs::directory_iterator(parent), fs::directory_iterator()), 1);
  EXPECT_EQ(export_to(parent / "deep" / "down" / "", {{"note.txt", "text"}}), "");
  EXPECT_EQ(slurp(parent / "deep" / "down" / "note.txt"), "text");
}

TEST(HfExport, WritesThroughNoPlantedLinkAndRemovesLeftovers) {
  const Exported exported(kSmall);
  const fs::path parent = exported.path().parent_path();
  const auto export_again = [&] {
    export_hf_model(parent / "new", kSmall, exported.config(), exported.model(), 0, {});
  };
  const fs::path planted = parent / (".tmp-new-" + std::to_string(::getpid()));
  fs::create_directory(parent / "elsewhere");
  fs::create_directory_symlink(parent / "elsewhere", planted);
  EXPECT_THAT(message_of<CheckpointError>(export_again), AllOf(HasSubstr(planted.string()), HasSubstr("File exists")));
  EXPECT_TRUE(fs::is_empty(parent / "elsewhere"));
  fs::remove(planted);
  fs::create_directories(parent / ".tmp-new-1/deep");  // of a killed export
  export_again();
  EXPECT_FALSE(fs::exists(parent / ".tmp-new-1"));
}

TEST(HfImport, NaNAndInfinityAreRefusedByName) {
  Exported exported(kSmall);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    TensorMap tensors = exported.tensors();
    tensors["model.norm.weight"] = tensors["model.norm.weight"].clone();
    tensors["model.norm.weight"][3] = bad;
    exported.replace_tensors(tensors);
    EXPECT_THAT(import_error(exported.path()),
                HasSubstr("tensor 'model.norm.weight' holds NaN or infinity in 1 of 12 places"));
    tensors["model.norm.weight"][3] = 1;
    exported.replace_tensors(tensors);
  }
  import_hf_model(exported.path());
}

TEST(HfImport, WidensHalfPrecisionAndRefusesOtherTypes) {
  Exported exported(kSmall);
  const TensorMap all = exported.tensors();
  for (const auto type : {torch::kBFloat16, torch::kFloat16}) {
    TensorMap narrow = all;
    for (auto& [name, tensor] : narrow) tensor = tensor.to(type);
    exported.replace_tensors(narrow);
    TensorMap wanted = exported.model();
    for (auto& [name, tensor] : wanted) tensor = tensor.to(type).to(torch::kFloat32);
    expect_equal(import_hf_model(exported.path()).model, wanted);
  }
  TensorMap changed = all;
  changed["model.norm.weight"] = torch::zeros({12}, torch::kInt32);
  exported.replace_tensors(changed);
  EXPECT_THAT(import_error(exported.path()), HasSubstr("'model.norm.weight' has dtype I32"));
}

TEST(HfImport, ATiedOutputProjectionMayBeWrittenOut) {
  Exported exported(kSmall);
  TensorMap tensors = exported.tensors();
  tensors["lm_head.weight"] = tensors.at("model.embed_tokens.weight").clone();
  exported.replace_tensors(tensors);
  expect_equal(import_hf_model(exported.path()).model, exported.model());
  tensors["lm_head.weight"][1][2] += 1;
  exported.replace_tensors(tensors);
  EXPECT_THAT(import_error(exported.path()), HasSubstr("'lm_head.weight' differs from the embedding"));
}

TEST(HfImport, OlderFoldersHoldConstantsAndShorterNames) {
  Exported exported(HfFamily::kGpt2);
  TensorMap bare;
  for (const auto& [name, tensor] : exported.tensors()) bare[name.substr(std::string("transformer.").size())] = tensor;
  bare["h.0.attn.bias"] = torch::ones({1, 1, 9, 9});
  exported.replace_tensors(bare);
  expect_equal(import_hf_model(exported.path()).model, exported.model());
  bare["transformer.wte.weight"] = bare.at("wte.weight");
  exported.replace_tensors(bare);
  EXPECT_THAT(import_error(exported.path()), HasSubstr("'wte.weight' is the same tensor as 'transformer.wte.weight'"));
  Exported llama(kSmall);
  TensorMap tensors = llama.tensors();
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch::ones({5});
  llama.replace_tensors(tensors);
  expect_equal(import_hf_model(llama.path()).model, llama.model());
}

TEST(HfImport, AHugeConfigurationOfFewTensorsIsRefusedAtOnce) {
  Exported exported(HfFamily::kQwen3Moe);
  Json json = exported.json();
  json["num_experts"] = 65536;
  json["num_hidden_layers"] = 16384;
  json["vocab_size"] = 1 << 24;
  exported.replace_json(json);
  EXPECT_THAT(import_error(exported.path()), AllOf(HasSubstr("is missing"), HasSubstr("there should be more than")));
}

TEST(HfImport, AuxLossKeepsItsWeightAtBalance) {
  // 3 layers, top-2. Balanced, transformers' loss is 2, ours the sum of three ones, or their mean.
  const Config config = family_config(HfFamily::kMixtral, {"moe.aux_loss_coeff=0.08"});
  const OrderedJson json = to_hf_config(HfFamily::kMixtral, config, 0);
  EXPECT_DOUBLE_EQ(json.at("router_aux_loss_coef").get<double>(), 0.08 * 3 / 2);
  const MoeConfig back = *from_hf_config(Json(json), "c").config.moe;
  EXPECT_EQ(back.aux_loss_layers, AuxLossLayers::kMean);
  EXPECT_DOUBLE_EQ(back.aux_loss_coeff, 3 * 0.08);
  const Config mean = family_config(HfFamily::kMixtral, {"moe.aux_loss_coeff=0.08", "moe.aux_loss_layers=mean"});
  EXPECT_DOUBLE_EQ(to_hf_config(HfFamily::kMixtral, mean, 0).at("router_aux_loss_coef").get<double>(), 0.08 / 2);
}

struct BadConfig {
  HfFamily family;
  std::string key;
  Json value;
};

class HfConfig : public ::testing::TestWithParam<BadConfig> {};

TEST_P(HfConfig, RefusesWhatIsNotComputedHere) {
  const auto& [family, key, value] = GetParam();
  Json json(to_hf_config(family, family_config(family), 0));
  from_hf_config(json, "config.json");
  if (value.is_discarded()) {
    json.erase(key);
  } else {
    json[key] = value;
  }
  EXPECT_THAT(message_of<CheckpointError>([&] { from_hf_config(json, "config.json"); }),
              AllOf(HasSubstr("config.json"), HasSubstr(key)));
}

const Json kGone = Json(Json::value_t::discarded);

INSTANTIATE_TEST_SUITE_P(
    Keys, HfConfig,
    ::testing::Values(
        BadConfig{kSmall, "model_type", "bert"}, BadConfig{kSmall, "model_type", 7},
        BadConfig{kSmall, "hidden_size", kGone}, BadConfig{kSmall, "hidden_size", "12"},
        BadConfig{kSmall, "hidden_size", -12}, BadConfig{kSmall, "hidden_size", 12.5},
        BadConfig{kSmall, "hidden_size", 1e300}, BadConfig{kSmall, "hidden_size", uint64_t{1} << 60},
        BadConfig{kSmall, "hidden_size", 0}, BadConfig{kSmall, "num_attention_heads", 0},
        BadConfig{kSmall, "num_hidden_layers", 1 << 30}, BadConfig{kSmall, "hidden_act", "relu"},
        BadConfig{kSmall, "mlp_bias", false}, BadConfig{kSmall, "tie_word_embeddings", 1},
        BadConfig{kSmall, "rms_norm_eps", "small"}, BadConfig{kSmall, "quantization_config", Json::object()},
        BadConfig{HfFamily::kMixtral, "num_key_value_heads", kGone},
        BadConfig{HfFamily::kMixtral, "num_key_value_heads", 2}, BadConfig{HfFamily::kMixtral, "attention_bias", true},
        BadConfig{HfFamily::kMixtral, "num_experts_per_tok", 1},
        BadConfig{HfFamily::kQwen3Moe, "mlp_only_layers", {0, -1}},
        BadConfig{HfFamily::kQwen3Moe, "decoder_sparse_step", 0}, BadConfig{HfFamily::kOlmoe, "clip_qkv", 8.0},
        BadConfig{HfFamily::kOlmoe, "num_experts", kGone}, BadConfig{HfFamily::kDeepseekV2, "norm_topk_prob", true},
        BadConfig{HfFamily::kDeepseekV2, "scoring_func", "sigmoid"},
        BadConfig{HfFamily::kDeepseekV2, "topk_method", "noaux_tc"},
        BadConfig{HfFamily::kDeepseekV2, "moe_layer_freq", 2},
        BadConfig{HfFamily::kDeepseekV3, "rope_interleave", false},
        BadConfig{HfFamily::kGpt2, "activation_function", "gelu"},
        BadConfig{HfFamily::kGpt2, "scale_attn_by_inverse_layer_idx", true}));

TEST(HfConfig, AnAbsentKeyHasTheValueOfItsClass) {
  Json json(to_hf_config(HfFamily::kDeepseekV3, family_config(HfFamily::kDeepseekV3), 0));
  json["num_hidden_layers"] = 4;
  json["n_routed_experts"] = 16;
  json["num_experts_per_tok"] = 3;
  for (const char* key :
       {"first_k_dense_replace", "routed_scaling_factor", "n_group", "topk_group", "norm_topk_prob", "q_lora_rank"}) {
    json.erase(key);
  }
  const Config third = from_hf_config(json, "c").config;
  EXPECT_EQ(third.moe->first_k_dense, 3);
  EXPECT_EQ(third.moe->router.scale, 2.5);
  EXPECT_EQ(third.moe->router.num_groups, 8);
  EXPECT_EQ(third.moe->router.top_groups, 4);
  EXPECT_TRUE(third.moe->router.normalize);
  EXPECT_EQ(third.model.latent_attention->q_lora_rank, 1536);
  json["q_lora_rank"] = nullptr;  // said, and not absent
  EXPECT_EQ(from_hf_config(json, "c").config.model.latent_attention->q_lora_rank, std::nullopt);
  for (const auto& [family, coefficient] :
       {std::pair(HfFamily::kMixtral, 1e-3), {HfFamily::kQwen3Moe, 1e-3}, {HfFamily::kOlmoe, 1e-2}}) {
    Json plain(to_hf_config(family, family_config(family), 0));
    plain.erase("router_aux_loss_coef");
    const MoeConfig moe = *from_hf_config(plain, "c").config.moe;
    EXPECT_DOUBLE_EQ(moe.aux_loss_coeff, coefficient * static_cast<double>(moe.top_k));
  }
}

TEST(HfConfig, RefusesScaledRotaryAngles) {
  Json json(to_hf_config(kSmall, family_config(kSmall), 0));
  json["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 1e4}};
  const auto error = [&] { return message_of<CheckpointError>([&] { from_hf_config(json, "c"); }); };
  EXPECT_THAT(error(), AllOf(HasSubstr("rope_type"), HasSubstr("yarn")));
  json["rope_parameters"] = nullptr;
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  EXPECT_THAT(error(), AllOf(HasSubstr("rope_type"), HasSubstr("linear")));
  json["rope_scaling"] = "linear";
  EXPECT_THAT(error(), HasSubstr("rope_scaling"));
}

}  // namespace
}  // namespace switchyard
