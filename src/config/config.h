// The whole configuration of a run as plain structs. Each struct's keys, documentation and ranges are declared once,
// in fields.cpp; reading, overriding, dumping, the JSON schema and the reference page are all driven by that.
//
// A key that may be left out because its value follows from others is Derived here; resolve() fills it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/derived.h"

namespace switchyard {

struct RunConfig {
  std::string dir = "runs/default";  // where the run writes; relative to the working directory
  int64_t seed = 1;
};

enum class Normalization { kRmsNorm, kLayerNorm };
enum class PositionEmbedding { kRotary, kLearned };
enum class Activation { kSwiGlu, kGeGlu, kGelu, kRelu };  // the first two are gated: three matrices instead of two
enum class QkNorm { kNone, kHead, kFull };                // over each head's vector, or over all heads' together

// Multi-head latent attention (DeepSeek-V2, 2024, section 2.1): keys and values from a narrow latent vector.
struct LatentAttentionConfig {
  int64_t kv_lora_rank = 512;          // width of the latent of keys and values
  std::optional<int64_t> q_lora_rank;  // width of the latent of queries; none: queries straight from the input
  int64_t qk_nope_head_dim = 128;      // part of a query's and a key's head without positions
  int64_t qk_rope_head_dim = 64;       // part with the rotary embedding; keys share it over the heads
  Derived<int64_t> v_head_dim;         // default: qk_nope_head_dim
};

struct ModelConfig {
  int64_t hidden_size = 256;             // D
  int64_t num_layers = 4;                // L
  int64_t num_attention_heads = 4;       // H
  Derived<int64_t> num_key_value_heads;  // default: num_attention_heads
  Derived<int64_t> head_dim;             // default: hidden_size / num_attention_heads
  Derived<int64_t> intermediate_size;    // width of a dense feed-forward; default: 8/3 hidden, up to 64s
  Derived<int64_t> vocab_size;           // default: the tokenizer's; sentencepiece trains to it (8192)
  bool tie_word_embeddings = true;
  Activation activation = Activation::kSwiGlu;
  Normalization normalization = Normalization::kRmsNorm;
  PositionEmbedding position_embedding = PositionEmbedding::kRotary;
  bool bias = false;       // on every linear map but the routers' and the output projection's
  bool post_norm = false;  // a second norm after attention and feed-forward, before the residual sum (Grok-1)
  QkNorm qk_norm = QkNorm::kNone;
  std::optional<LatentAttentionConfig> latent_attention;
  std::optional<int64_t> sliding_window;             // positions that a query sees, itself included; none: all
  std::vector<int64_t> sliding_window_layers = {1};  // one number n: every n-th layer; or a 0/1 list, one per layer
  std::optional<double> attention_softcap;           // c tanh(score / c)
  std::optional<double> logit_softcap;               // the same on the output logits
  double embedding_scale = 1.0;                      // embeddings times this (Grok-1)
  double logit_scale = 1.0;                          // output logits times this
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
  double dropout = 0.0;    // on embeddings, attention output and feed-forward output
  double init_std = 0.02;  // GPT-2's; residual projections get init_std / sqrt(2 L)
};

// The schemes of moe.router.type; router_keys.h says which of RouterConfig's keys each one has.
enum class RouterType {
  kTopK,
  kSwitch,
  kNoisyTopK,
  kHierarchical,
  kSoftMixture,
  kExpertChoice,
  kThreshold,
  kHash,
  kRandom,
  kSinkhorn,
  kQuantile,
  kSoftMoe
};
enum class SoftmaxOrder { kBefore, kAfter };  // softmax over all experts, or over the chosen ones only
enum class ScoreFunction { kSoftmax, kSigmoid };
enum class GroupScore { kMax, kTopTwoSum };             // DeepSeek-V2, DeepSeek-V3
enum class SecondExpert { kAlways, kRandom };           // random: with probability min(1, 2 w_2) (GShard)
enum class TokenScope { kSequence, kBatch };            // the tokens among which an expert chooses
enum class CausalForm { kNone, kThreshold };            // how expert choice decides in evaluation and generation
enum class ThresholdRule { kTopP, kScore };             // the fewest that reach a mass, or every score above a line
enum class ExpertError { kCooperative, kCompetitive };  // of the blended output, or of each expert's own (Jacobs 1991)

struct RouterConfig {
  RouterType type = RouterType::kTopK;
  SoftmaxOrder softmax = SoftmaxOrder::kBefore;
  bool normalize = true;  // chosen weights sum to one (softmax: before only)
  double jitter = 0.0;    // inputs times U(1 - jitter, 1 + jitter) in training (Switch)
  // Router init_std = init_scale * model.init_std; default 0.1 (Switch), 0 for noisy_top_k, 1 for soft_moe.
  Derived<double> init_scale;
  ScoreFunction score = ScoreFunction::kSoftmax;
  double scale = 1.0;                         // chosen weights times this (DeepSeek's routed_scaling_factor)
  int64_t num_groups = 1;                     // experts form this many groups of neighbours ...
  int64_t top_groups = 1;                     // ... of which a token sees this many
  GroupScore group_score = GroupScore::kMax;  // what a group is chosen by
  bool expert_bias = false;                   // selection by score + bias, balanced without a loss (DeepSeek-V3)
  double bias_rate = 1e-3;                    // step of that bias
  SecondExpert second_expert = SecondExpert::kAlways;
  int64_t null_experts = 0;       // choices that compute nothing, besides the experts
  double importance_coeff = 0.1;  // noisy_top_k: weight of CV^2 of the experts' total weights (Shazeer 2017, eq. 7)
  double load_coeff = 0.1;        // noisy_top_k: weight of CV^2 of the smooth load (eq. 11)
  TokenScope choice_scope = TokenScope::kSequence;
  CausalForm causal_form = CausalForm::kThreshold;
  ThresholdRule rule = ThresholdRule::kTopP;
  Derived<int64_t> max_experts;  // most experts of one token; default: num_experts
  double budget_coeff = 0.01;    // threshold: weight of the budget loss
  double threshold_rate = 1e-3;  // threshold: step of the threshold towards the budget; 0: fixed
  double initial_threshold = 0.5;
  int64_t sinkhorn_iterations = 8;
  double momentum = 0.99;                         // of running thresholds (expert_choice, quantile)
  Derived<int64_t> slots_per_expert;              // soft_moe; default: top_k * seq_length / num_experts, rounded up
  ExpertError error = ExpertError::kCooperative;  // soft_mixture: what the experts of the last layer are trained on
};

enum class AuxLossScope { kMicroBatch, kSequence, kGlobalBatch };
enum class AuxLossLayers { kSum, kMean };           // over the MoE layers
enum class AuxLossChoices { kAll, kFirst };         // which choices the load counts
enum class AuxLossProbabilities { kAll, kChosen };  // softmax over all experts, or over the chosen ones
enum class DropPolicy { kProbability, kPosition };  // who keeps the place when an expert is full

struct MoeConfig {
  int64_t num_experts = 8;                // E
  int64_t top_k = 2;                      // K; where a scheme lets the number vary, its mean
  Derived<int64_t> intermediate_size;     // width F of one expert; default: model.intermediate_size
  int64_t num_shared_experts = 0;         // always active, each as wide as one expert
  std::vector<int64_t> layer_freq = {1};  // one number n: every n-th layer; or a 0/1 list, one per layer
  int64_t first_k_dense = 0;              // the first layers stay dense whatever layer_freq says (DeepSeek)
  bool dense_residual = false;            // a dense feed-forward beside the experts, their outputs added (Arctic)
  RouterConfig router;
  double aux_loss_coeff = 0.01;
  AuxLossScope aux_loss_scope = AuxLossScope::kGlobalBatch;
  AuxLossLayers aux_loss_layers = AuxLossLayers::kSum;
  AuxLossChoices aux_loss_choices = AuxLossChoices::kAll;
  AuxLossProbabilities aux_loss_probabilities = AuxLossProbabilities::kAll;
  double z_loss_coeff = 0.001;
  std::optional<double> capacity_factor;       // none: dropless
  std::optional<double> eval_capacity_factor;  // default: capacity_factor
  DropPolicy drop_policy = DropPolicy::kProbability;
};

// Mixture of Depths (Raposo et al. 2024): in some layers only the tokens that a router picks pass through the block.
struct MixtureOfDepthsConfig {
  double capacity_factor = 0.125;         // share of a sequence's tokens that pass
  std::vector<int64_t> layer_freq = {2};  // one number n: every n-th layer; or a 0/1 list, one per layer
  double predictor_coeff = 0.01;          // weight of the loss of the causal predictor that decides in generation
};

enum class DocumentRule { kFile, kEntry };  // a document is a file, or an entry of a dictionary-like file

enum class TextEncoding { kUtf8, kLatin1, kBytes };

struct SourceConfig {
  std::string name;
  std::vector<std::string> files;  // globs; relative ones start at the config file's folder
  double weight = 1.0;             // share of training windows, relative to the other sources
  DocumentRule documents = DocumentRule::kFile;
  TextEncoding encoding = TextEncoding::kUtf8;
  std::string modality = "text";  // routing is reported by modality where there are several
};

struct DataConfig {
  std::string tokenizer = "byte";  // byte | char | sentencepiece | sentencepiece:FILE
  std::vector<SourceConfig> sources;
  double validation_fraction = 0.1;
  std::string cache_dir = "data/shards";     // relative to the working directory
  int64_t tokenizer_sample_bytes = 8 << 20;  // text that SentencePiece is trained on
};

enum class Precision { kFp32, kBf16, kFp64 };
enum class DeviceKind { kAuto, kCpu, kCuda };
enum class Recompute { kNone, kSelective, kFull };  // what of the forward pass runs again in the backward pass
enum class SpikeAction { kOff, kWarn, kSkip };

struct SpikeConfig {
  SpikeAction action = SpikeAction::kWarn;
  double threshold = 6.0;  // standard deviations above the window's mean loss
  int64_t window = 128;    // steps
};

struct TrainingConfig {
  int64_t max_steps = 1000;
  int64_t seq_length = 256;            // S
  int64_t micro_batch_size = 16;       // sequences a forward pass and rank
  Derived<int64_t> global_batch_size;  // sequences a step, all ranks; default: micro_batch_size
  Precision precision = Precision::kFp32;
  DeviceKind device = DeviceKind::kAuto;
  Recompute recompute = Recompute::kNone;
  int64_t num_threads = 0;    // 0: one per core
  int64_t log_interval = 10;  // steps between train lines and routing lines
  SpikeConfig spike;
};

struct OptimizerConfig {
  double lr = 1e-3;
  double weight_decay = 0.1;  // on matrices only
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double grad_clip = 1.0;  // largest global L2 norm; 0: off
};

enum class ScheduleType { kCosine, kLinear, kConstant, kWsd };

struct ScheduleConfig {
  ScheduleType type = ScheduleType::kCosine;
  int64_t warmup_steps = 0;
  double min_lr = 0.0;
  std::optional<int64_t> decay_steps;  // cosine, linear: steps until min_lr (default max_steps);
                                       // wsd: length of the final decay (default max_steps / 5)
};

struct EvalConfig {
  int64_t interval = 250;  // steps; 0: only at the end
  int64_t batches = 20;    // of micro_batch_size sequences, per domain; 0: all of it
};

struct CheckpointConfig {
  int64_t interval = 500;   // steps; 0: only at the end
  int64_t keep_last = 2;    // newest ones kept; 0: all
  bool background = false;  // write while training goes on
};

struct ParallelConfig {
  int64_t expert_parallel_size = 1;
  bool distributed_optimizer = false;
  double timeout = 600;          // seconds without an answer after which a rank counts as lost
  int64_t bucket_megabytes = 8;  // gradients of this size are reduced while the backward pass goes on
};

enum class AlarmAction { kOff, kWarn, kStop };

// When the routers of a layer count as collapsed. Judged on every logged step.
struct AlarmConfig {
  AlarmAction action = AlarmAction::kWarn;
  double load_share = 0.5;  // alarm: an expert's load has come so far from its fair share K / E (0) to every token (1)
  double dead_share = 0.5;  // share of the layer's experts that are dead
  int64_t patience = 3;     // logged steps in a row
};

struct MetricsConfig {
  bool tensorboard = true;
  int64_t dead_expert_window = 100;  // steps without a token after which an expert counts as dead
  AlarmConfig alarm;
};

struct Config {
  RunConfig run;
  ModelConfig model;
  std::optional<MoeConfig> moe;  // absent: a dense model
  std::optional<MixtureOfDepthsConfig> mixture_of_depths;
  DataConfig data;
  TrainingConfig training;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  ParallelConfig parallel;
  MetricsConfig metrics;
};

// What a list of layers says of layer `layer` (from 0): [n] is the last of every n layers (so n = 1 is every layer); a
// longer list holds one 0 or 1 per layer.
bool is_listed(const std::vector<int64_t>& layers, int64_t layer);
// Whether layer `layer` (from 0) has experts instead of a dense feed-forward; and how many layers do.
bool is_moe_layer(const Config& config, int64_t layer);
int64_t num_moe_layers(const Config& config);
// Whether only some tokens pass through layer `layer`.
bool is_depth_layer(const Config& config, int64_t layer);
bool is_gated(Activation activation);
const char* precision_name(Precision precision);  // as in the configuration
int64_t element_bytes(Precision precision);       // of the compute
int64_t weight_bytes(Precision precision);        // of parameters, gradients and moments
// Routed experts that compute for one token, on average: top_k, or all of them for soft_mixture.
int64_t active_experts(const MoeConfig& moe);

}  // namespace switchyard
