// The reading half of config_json.h.
#include <algorithm>
#include <set>

#include "base/text.h"
#include "checkpoint/guard.h"
#include "checkpoint/huggingface/config_json.h"
#include "checkpoint/huggingface/json_keys.h"
#include "config/load.h"

namespace switchyard {
namespace {

// The largest layer or expert count that is looked at one by one before the configuration's own ranges are checked.
constexpr int64_t kMostLayers = int64_t{1} << 14;

void read_rotary(const JsonKeys& keys, double otherwise, ModelConfig& model) {
  model.rope_theta = keys.real("rope_theta", otherwise);
  for (const char* name : {"rope_scaling", "rope_parameters"}) {  // transformers 4, 5
    if (keys.find(name) == nullptr) continue;
    const JsonKeys rope = keys.section(name);
    const std::string type = rope.text("rope_type", rope.text("type", "default"));
    rope.require(type == "default", "rope_type", "is " + in_quotes(type) + "; only default is computed here");
    rope.require(rope.real("partial_rotary_factor", 1) == 1, "partial_rotary_factor", "is not 1");
    model.rope_theta = rope.real("rope_theta", model.rope_theta);
  }
}

void read_activation(const JsonKeys& keys, ModelConfig& model) {
  const std::string name = keys.text("hidden_act", "silu");
  if (name == "silu" || name == "swish") {
    model.activation = Activation::kSwiGlu;
  } else if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    model.activation = Activation::kGeGlu;
  } else {
    keys.fail("hidden_act", "is " + in_quotes(name) + "; known are silu and gelu_pytorch_tanh");
  }
}

void read_common(const JsonKeys& keys, HfFamily family, Config& config) {
  ModelConfig& model = config.model;
  model.vocab_size = keys.integer("vocab_size");
  model.hidden_size = keys.integer("hidden_size");
  model.num_layers = keys.integer("num_hidden_layers");
  keys.require(model.num_layers <= kMostLayers, "num_hidden_layers", "is too large");
  model.num_attention_heads = keys.integer("num_attention_heads");
  model.intermediate_size = keys.integer("intermediate_size");
  model.norm_eps = keys.real("rms_norm_eps", family == HfFamily::kMixtral || family == HfFamily::kOlmoe ? 1e-5 : 1e-6);
  model.tie_word_embeddings = keys.flag("tie_word_embeddings", false);
  model.init_std = keys.real("initializer_range", model.init_std);
  config.training.seq_length = keys.integer("max_position_embeddings");
  read_rotary(keys, family == HfFamily::kMixtral ? 1e6 : 1e4, model);
  read_activation(keys, model);
  const bool bias = keys.flag("attention_bias", false);
  keys.require(!bias || family == HfFamily::kLlama, "attention_bias",
               "is true, which this family has no room for here");
  const bool mlp_bias = keys.flag("mlp_bias", false);
  keys.require(bias == mlp_bias, "mlp_bias", "differs from attention_bias; here all linear maps have a bias or none");
  model.bias = bias;
}

void read_heads(const JsonKeys& keys, ModelConfig& model) {
  model.num_key_value_heads = keys.integer("num_key_value_heads", model.num_attention_heads);
  if (const auto width = keys.maybe_integer("head_dim")) model.head_dim = *width;
}

void read_window(const JsonKeys& keys, ModelConfig& model) {
  model.sliding_window = keys.maybe_integer("sliding_window");
}

// Experts of the families whose routers are a plain softmax over all experts.
void read_experts(const JsonKeys& keys, bool normalize, Config& config) {
  MoeConfig& moe = config.moe.emplace();
  moe.num_experts = keys.integer_of({"num_experts", "num_local_experts"});
  moe.top_k = keys.integer("num_experts_per_tok");
  moe.router.normalize = normalize || moe.top_k == 1;  // a single choice is never normalised here
  keys.require(!normalize || moe.top_k > 1, "num_experts_per_tok",
               "is 1 with weights that sum to one: every weight would be 1, and its router could not learn");
}

// There: one mean over all layers, top_k at balance. See hf_aux_loss_coeff in config_json.cpp.
void read_aux_loss(const JsonKeys& keys, double otherwise, MoeConfig& moe) {
  moe.aux_loss_coeff = keys.real("router_aux_loss_coef", otherwise) * static_cast<double>(moe.top_k);
  moe.aux_loss_layers = AuxLossLayers::kMean;
}

std::set<int64_t> read_layers(const JsonKeys& keys, const char* key) {
  std::set<int64_t> layers;
  const Json* value = keys.find(key);
  if (value == nullptr) return layers;
  keys.require(value->is_array(), key, "is no list");
  for (const Json& item : *value) {
    const bool layer = item.is_number_integer() && item.get<int64_t>() >= 0 && item.get<int64_t>() < kMostLayers;
    keys.require(layer, key, "holds what is no layer");
    layers.insert(item.get<int64_t>());
  }
  return layers;
}

void read_qwen3_moe(const JsonKeys& keys, Config& config) {
  read_heads(keys, config.model);
  if (!config.model.head_dim) config.model.head_dim = 128;  // of that class in transformers 4
  config.model.qk_norm = QkNorm::kHead;
  if (keys.flag("use_sliding_window", false)) read_window(keys, config.model);
  read_experts(keys, keys.flag("norm_topk_prob", false), config);
  MoeConfig& moe = *config.moe;
  moe.intermediate_size = keys.integer("moe_intermediate_size");
  const std::set<int64_t> dense = read_layers(keys, "mlp_only_layers");
  const int64_t step = keys.integer("decoder_sparse_step", 1);
  keys.require(step > 0, "decoder_sparse_step", "is 0");
  moe.layer_freq.clear();
  for (int64_t layer = 0; layer < config.model.num_layers; ++layer) {
    moe.layer_freq.push_back(!dense.contains(layer) && (layer + 1) % step == 0 ? 1 : 0);
  }
  const bool all = std::count(moe.layer_freq.begin(), moe.layer_freq.end(), 0) == 0;
  if (all || moe.layer_freq.size() == 1) moe.layer_freq = {1};
  keys.require(all || config.model.num_layers > 1, "mlp_only_layers", "leaves no layer with experts");
  read_aux_loss(keys, 1e-3, *config.moe);
}

// What a key that is absent stands for is what the family's class in transformers has then.
void read_deepseek(const JsonKeys& keys, bool third, Config& config) {
  LatentAttentionConfig& latent = config.model.latent_attention.emplace();
  latent.kv_lora_rank = keys.integer("kv_lora_rank");
  latent.q_lora_rank = keys.has("q_lora_rank") ? keys.maybe_integer("q_lora_rank") : 1536;
  latent.qk_nope_head_dim = keys.integer("qk_nope_head_dim");
  latent.qk_rope_head_dim = keys.integer("qk_rope_head_dim");
  latent.v_head_dim = keys.integer("v_head_dim");
  MoeConfig& moe = config.moe.emplace();
  moe.num_experts = keys.integer_of({"n_routed_experts", "num_experts", "num_local_experts"});
  moe.top_k = keys.integer("num_experts_per_tok");
  moe.num_shared_experts = keys.integer("n_shared_experts");
  moe.intermediate_size = keys.integer("moe_intermediate_size");
  moe.first_k_dense = keys.integer("first_k_dense_replace", third ? 3 : 0);
  keys.require(keys.integer("moe_layer_freq", 1) == 1, "moe_layer_freq", "is not 1");
  RouterConfig& router = moe.router;
  router.scale = keys.real("routed_scaling_factor", third ? 2.5 : 1);
  const bool normalize = keys.flag("norm_topk_prob", third);
  keys.require(!normalize || moe.top_k > 1, "norm_topk_prob", "is true with a single choice");
  keys.require(third || !normalize, "norm_topk_prob", "is true, which transformers does not compute for deepseek_v2");
  router.normalize = third ? normalize || moe.top_k == 1 : false;
  const std::string score = keys.text("scoring_func", third ? "sigmoid" : "softmax");
  keys.require(score == (third ? "sigmoid" : "softmax"), "scoring_func", "is " + in_quotes(score));
  const std::string method = keys.text("topk_method", third ? "noaux_tc" : "greedy");
  const bool known = third ? method == "noaux_tc" : method == "greedy" || method == "group_limited_greedy";
  keys.require(known, "topk_method", "is " + in_quotes(method) + ", which is not known for this family");
  if (third) {
    keys.require(keys.flag("rope_interleave", true), "rope_interleave", "is false");
    router.score = ScoreFunction::kSigmoid;
    router.expert_bias = true;
  }
  if (third || method == "group_limited_greedy") {
    router.num_groups = keys.integer("n_group", third ? 8 : 1);
    router.top_groups = keys.integer("topk_group", third ? 4 : 1);
  }
  if (router.num_groups > 1) router.group_score = third ? GroupScore::kTopTwoSum : GroupScore::kMax;
}

void read_gpt2(const JsonKeys& keys, Config& config) {
  ModelConfig& model = config.model;
  model.normalization = Normalization::kLayerNorm;
  model.position_embedding = PositionEmbedding::kLearned;
  model.bias = true;
  model.vocab_size = keys.integer("vocab_size");
  model.hidden_size = keys.integer_of({"n_embd", "hidden_size"});
  model.num_layers = keys.integer_of({"n_layer", "num_hidden_layers"});
  keys.require(model.num_layers <= kMostLayers, "n_layer", "is too large");
  model.num_attention_heads = keys.integer_of({"n_head", "num_attention_heads"});
  model.intermediate_size = keys.integer("n_inner", 4 * model.hidden_size);
  config.training.seq_length = keys.integer_of({"n_positions", "n_ctx", "max_position_embeddings"});
  model.norm_eps = keys.real("layer_norm_epsilon", 1e-5);
  model.init_std = keys.real("initializer_range", model.init_std);
  model.tie_word_embeddings = keys.flag("tie_word_embeddings", true);
  const std::string activation = keys.text("activation_function", "gelu_new");
  const bool tanh = activation == "gelu_new" || activation == "gelu_pytorch_tanh";
  keys.require(tanh || activation == "relu", "activation_function",
               "is " + in_quotes(activation) + "; known are gelu_new and relu");
  model.activation = tanh ? Activation::kGelu : Activation::kRelu;
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"}) {
    keys.require(!keys.flag(key, false), key, "is true, which is not computed here");
  }
  keys.require(keys.flag("scale_attn_weights", true), "scale_attn_weights", "is false, which is not computed here");
}

void read_family(const JsonKeys& keys, HfFamily family, Config& config) {
  if (family != HfFamily::kGpt2) read_common(keys, family, config);
  switch (family) {
    case HfFamily::kLlama:
      read_heads(keys, config.model);
      break;
    case HfFamily::kMixtral:
      keys.integer("num_key_value_heads");  // whose default there is no other key's
      read_heads(keys, config.model);
      read_window(keys, config.model);
      read_experts(keys, /*normalize=*/true, config);
      read_aux_loss(keys, 1e-3, *config.moe);
      break;
    case HfFamily::kQwen3Moe:
      keys.integer("num_key_value_heads");
      read_qwen3_moe(keys, config);
      break;
    case HfFamily::kOlmoe:
      read_heads(keys, config.model);
      config.model.qk_norm = QkNorm::kFull;
      keys.require(keys.find("clip_qkv") == nullptr, "clip_qkv", "is set; queries and keys are not clipped here");
      read_experts(keys, keys.flag("norm_topk_prob", false), config);
      read_aux_loss(keys, 1e-2, *config.moe);
      break;
    case HfFamily::kDeepseekV2:
    case HfFamily::kDeepseekV3:
      read_deepseek(keys, family == HfFamily::kDeepseekV3, config);
      break;
    case HfFamily::kGpt2:
      read_gpt2(keys, config);
      break;
  }
}

}  // namespace

HfModelConfig from_hf_config(const Json& json, const std::string& where) {
  const JsonKeys keys(json, where);
  const std::string type = keys.text("model_type", "");
  const auto family = hf_family_named(type);
  std::string known;
  for (const HfFamily each : hf_families()) known += (known.empty() ? "" : ", ") + model_type_of(each);
  keys.require(family.has_value(), "model_type", "is " + in_quotes(type) + "; known are " + known);
  keys.require(keys.find("quantization_config") == nullptr, "quantization_config",
               "is set; only float32, bfloat16 and float16 weights are read");
  Config config;
  config.training.micro_batch_size = 1;
  read_family(keys, *family, config);
  // Read back as a configuration file would be: every range and every rule is checked.
  try {
    const Config checked = parse_config(dump_config(config), where, ".");
    check_expressible(*family, checked);
    return {*family, checked};
  } catch (const ConfigError& error) {
    throw CheckpointError(where + " describes a model that can't be built here:\n" + error.what());
  }
}

}  // namespace switchyard
