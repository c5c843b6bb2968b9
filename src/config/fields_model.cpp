#include "config/fields_model.h"

#include "config/field_makers.h"
#include "config/router_keys.h"

namespace switchyard {
namespace {

Fields latent_attention_fields(LatentAttentionConfig& c) {
  return {
      integer("kv_lora_rank", c.kv_lora_rank, {1, kMostWidth}, "Width of the latent vector of keys and values."),
      integer("q_lora_rank", c.q_lora_rank, {1, kMostWidth}, "Width of the latent vector of queries.",
              {.fallback = "queries straight from the layer's input"}),
      integer("qk_nope_head_dim", c.qk_nope_head_dim, {1, kMostHeads},
              "Part of each query and key head without positions."),
      integer("qk_rope_head_dim", c.qk_rope_head_dim, {2, kMostHeads},
              "Part with the rotary embedding, even; the keys' part is the same for all heads."),
      integer("v_head_dim", c.v_head_dim, {1, kMostHeads}, "Width of a value head.", {.fallback = "qk_nope_head_dim"}),
  };
}

Fields router_fields(RouterConfig& c) {
  return {
      choice<RouterType>("type", c.type, router_types(),
                         "Routing scheme; docs/routers.md describes each one and says which of these keys it has."),
      choice<SoftmaxOrder>("softmax", c.softmax, {{"before", SoftmaxOrder::kBefore}, {"after", SoftmaxOrder::kAfter}},
                           "Softmax before the selection (over all experts) or after it (over the chosen ones)."),
      flag("normalize", c.normalize, "Scale the chosen experts' weights so that they sum to one."),
      real("jitter", c.jitter, kBelowOne,
           "In training, router inputs are multiplied by uniform noise from [1 - jitter, 1 + jitter]."),
      real("init_scale", c.init_scale, kCoefficient,
           "Initial router weights have the standard deviation init_scale * model.init_std.",
           {.fallback = "0.1; 0 for noisy_top_k, 1 for soft_moe"}),
      choice<ScoreFunction>("score", c.score,
                            {{"softmax", ScoreFunction::kSoftmax}, {"sigmoid", ScoreFunction::kSigmoid}},
                            "What makes an expert's score from its logit: softmax over the experts, or sigmoid."),
      real("scale", c.scale, {0, 1e6, true}, "The chosen experts' weights are multiplied by this."),
      integer("num_groups", c.num_groups, {1, kMostExperts},
              "Groups of neighbouring experts; divides moe.num_experts."),
      integer("top_groups", c.top_groups, {1, kMostExperts}, "Groups that the experts of one token come from."),
      choice<GroupScore>("group_score", c.group_score,
                         {{"max", GroupScore::kMax}, {"top_two_sum", GroupScore::kTopTwoSum}},
                         "What a group is chosen by: its best score, or the sum of its best two."),
      flag("expert_bias", c.expert_bias,
           "Choose by score plus a bias per expert that every step moves towards even load; weights do not see it."),
      real("bias_rate", c.bias_rate, {0, 1}, "Size of that move; 0: the bias stays as it is."),
      choice<SecondExpert>("second_expert", c.second_expert,
                           {{"always", SecondExpert::kAlways}, {"random", SecondExpert::kRandom}},
                           "random: in training the second expert is used with probability min(1, 2 * its weight)."),
      integer("null_experts", c.null_experts, {0, kMostExperts},
              "Further choices that compute nothing: a token that takes one uses fewer experts."),
      real("importance_coeff", c.importance_coeff, kCoefficient,
           "Weight of the importance loss, 1 + CV^2 of the experts' summed weights."),
      real("load_coeff", c.load_coeff, kCoefficient, "Weight of the load loss, 1 + CV^2 of the smooth load."),
      choice<TokenScope>("choice_scope", c.choice_scope,
                         {{"sequence", TokenScope::kSequence}, {"batch", TokenScope::kBatch}},
                         "The tokens among which an expert chooses in training."),
      choice<CausalForm>("causal_form", c.causal_form,
                         {{"none", CausalForm::kNone}, {"threshold", CausalForm::kThreshold}},
                         "How experts choose in evaluation and generation. threshold: every token above the running "
                         "threshold of training, so that no later token is looked at; none: as in training."),
      choice<ThresholdRule>("rule", c.rule, {{"top_p", ThresholdRule::kTopP}, {"score", ThresholdRule::kScore}},
                            "top_p: the fewest experts whose probabilities reach the threshold together. score: every "
                            "expert whose sigmoid score is above it."),
      integer("max_experts", c.max_experts, {1, kMostExperts}, "Most experts of one token.",
              {.fallback = "moe.num_experts"}),
      real("budget_coeff", c.budget_coeff, kCoefficient,
           "Weight of the budget loss, 1 where the mean number of experts is moe.top_k (with null_experts, its share "
           "num_experts / (num_experts + null_experts))."),
      real("threshold_rate", c.threshold_rate, {0, 1},
           "Step by which the threshold moves, after every step, towards moe.top_k experts for a token; 0: fixed."),
      real("initial_threshold", c.initial_threshold, {0, 1, true, true}, "The threshold at the start."),
      integer("sinkhorn_iterations", c.sinkhorn_iterations, {1, 1000}, "Normalisations over tokens and experts."),
      real("momentum", c.momentum, kBelowOne, "Of the running thresholds: what they keep of their value in a step."),
      integer("slots_per_expert", c.slots_per_expert, {1, kMostSequences},
              "Mixtures of a sequence's tokens that each expert computes.",
              {.fallback = "moe.top_k * training.seq_length / moe.num_experts, rounded up"}),
      choice<ExpertError>("error", c.error,
                          {{"cooperative", ExpertError::kCooperative}, {"competitive", ExpertError::kCompetitive}},
                          "What the experts of the last layer are trained on: the prediction of their weighted sum, or "
                          "the mixture of the predictions that each makes alone."),
  };
}

}  // namespace

Fields model_fields(ModelConfig& c) {
  return {
      integer("hidden_size", c.hidden_size, {1, kMostWidth}, "Width of the residual stream."),
      integer("num_layers", c.num_layers, {1, kMostLayers}, "Number of transformer layers."),
      integer("num_attention_heads", c.num_attention_heads, {1, kMostHeads}, "Number of query heads."),
      integer("num_key_value_heads", c.num_key_value_heads, {1, kMostHeads},
              "Number of key and value heads (grouped-query attention); divides num_attention_heads.",
              {.fallback = "num_attention_heads"}),
      integer("head_dim", c.head_dim, {2, kMostHeads}, "Width of one head; even, for the rotary embedding.",
              {.fallback = "hidden_size / num_attention_heads"}),
      integer("intermediate_size", c.intermediate_size, {1, kMostFeedForward}, "Width of a dense feed-forward.",
              {.fallback = "8/3 hidden_size, rounded up to a multiple of 64"}),
      integer("vocab_size", c.vocab_size, {2, kMostVocabulary},
              "Size of the vocabulary; a sentencepiece tokenizer is trained to it.",
              {.fallback = "the tokenizer's; 8192 for a sentencepiece tokenizer to train"}),
      flag("tie_word_embeddings", c.tie_word_embeddings, "Whether the output projection is the embedding's matrix."),
      choice<Activation>("activation", c.activation,
                         {{"swiglu", Activation::kSwiGlu},
                          {"geglu", Activation::kGeGlu},
                          {"gelu", Activation::kGelu},
                          {"relu", Activation::kRelu}},
                         "Of feed-forwards and experts. swiglu and geglu are gated: three matrices instead of two."),
      choice<Normalization>("normalization", c.normalization,
                            {{"rms_norm", Normalization::kRmsNorm}, {"layer_norm", Normalization::kLayerNorm}},
                            "Kind of all norms but those of qk_norm."),
      choice<PositionEmbedding>("position_embedding", c.position_embedding,
                                {{"rotary", PositionEmbedding::kRotary}, {"learned", PositionEmbedding::kLearned}},
                                "How positions are known: rotated queries and keys, or a learned vector per position "
                                "up to training.seq_length."),
      flag("bias", c.bias, "Biases on every linear map but the routers' and the output projection's."),
      flag("post_norm", c.post_norm, "A second norm after attention and feed-forward, before the residual sum."),
      choice<QkNorm>("qk_norm", c.qk_norm, {{"none", QkNorm::kNone}, {"head", QkNorm::kHead}, {"full", QkNorm::kFull}},
                     "RMSNorm on queries and keys: none, per head, or over all heads' values together."),
      optional_section("latent_attention", c.latent_attention, latent_attention_fields,
                       "Multi-head latent attention (DeepSeek-V2). Left out or null: grouped-query attention."),
      integer("sliding_window", c.sliding_window, {1, kMostSequences},
              "Positions that a query sees in the layers of sliding_window_layers, its own included.",
              {.unit = "tokens", .fallback = "all"}),
      make("sliding_window_layers", LayerListValue{&c.sliding_window_layers},
           "Which layers have the window. n: the last of every n layers; or a list with 0 or 1 for each layer."),
      real("attention_softcap", c.attention_softcap, kPositive, "Attention scores s become c tanh(s / c).",
           {.fallback = "no cap"}),
      real("logit_softcap", c.logit_softcap, kPositive, "Output logits z become c tanh(z / c).",
           {.fallback = "no cap"}),
      real("embedding_scale", c.embedding_scale, kPositive, "Token embeddings are multiplied by this."),
      real("logit_scale", c.logit_scale, kPositive, "Output logits are multiplied by this."),
      real("rope_theta", c.rope_theta, {1, 1e12}, "Base of the rotary embedding's wavelengths."),
      real("norm_eps", c.norm_eps, {0, 1, true}, "Added to the mean square in RMSNorm."),
      real("dropout", c.dropout, kBelowOne,
           "Probability of dropping a value of the embeddings, the attention output and the feed-forward output."),
      real("init_std", c.init_std, {0, 100, true},
           "Standard deviation of initial weights; residual projections get init_std / sqrt(2 num_layers)."),
  };
}

Fields moe_fields(MoeConfig& c) {
  return {
      integer("num_experts", c.num_experts, {1, kMostExperts}, "Number of routed experts in a layer."),
      integer("top_k", c.top_k, {1, kMostExperts},
              "Experts that each token is sent to; the mean over tokens where a router lets the number vary."),
      integer("intermediate_size", c.intermediate_size, {1, kMostFeedForward}, "Width of one expert.",
              {.fallback = "model.intermediate_size"}),
      integer("num_shared_experts", c.num_shared_experts, {0, 1024},
              "Experts that every token passes through besides the chosen ones, each as wide as one expert."),
      make("layer_freq", LayerListValue{&c.layer_freq},
           "Which layers have experts. n: the last of every n layers, so 1 is all; or a list with 0 (dense) or 1 for "
           "each layer."),
      integer("first_k_dense", c.first_k_dense, {0, kMostLayers},
              "The first layers that stay dense whatever layer_freq says."),
      flag("dense_residual", c.dense_residual,
           "A dense feed-forward of model.intermediate_size beside the experts; the outputs are added."),
      section("router", router_fields(c.router),
              "How tokens choose experts: the name of a scheme, or a map with 'type' and the scheme's keys.", "type"),
      real("aux_loss_coeff", c.aux_loss_coeff, kCoefficient,
           "Weight of the load-balancing loss, which is 1 per layer at perfect balance; 0: off."),
      choice<AuxLossScope>("aux_loss_scope", c.aux_loss_scope,
                           {{"micro_batch", AuxLossScope::kMicroBatch},
                            {"sequence", AuxLossScope::kSequence},
                            {"global_batch", AuxLossScope::kGlobalBatch}},
                           "The tokens over which the load is balanced."),
      choice<AuxLossLayers>("aux_loss_layers", c.aux_loss_layers,
                            {{"sum", AuxLossLayers::kSum}, {"mean", AuxLossLayers::kMean}},
                            "Whether the loss is the sum or the mean over the layers with experts."),
      choice<AuxLossChoices>("aux_loss_choices", c.aux_loss_choices,
                             {{"all", AuxLossChoices::kAll}, {"first", AuxLossChoices::kFirst}},
                             "Which choices the load counts: all, or each token's first (GShard)."),
      choice<AuxLossProbabilities>("aux_loss_probabilities", c.aux_loss_probabilities,
                                   {{"all", AuxLossProbabilities::kAll}, {"chosen", AuxLossProbabilities::kChosen}},
                                   "The probabilities it multiplies the load with: over all experts, or over the "
                                   "chosen ones only."),
      real("z_loss_coeff", c.z_loss_coeff, kCoefficient, "Weight of the router z-loss; 0: off."),
      real("capacity_factor", c.capacity_factor, {0, 1e6, true},
           "Places of an expert, relative to an even share of the assignments; what exceeds them is dropped.",
           {.fallback = "no limit: nothing is dropped"}),
      real("eval_capacity_factor", c.eval_capacity_factor, {0, 1e6, true},
           "The same in evaluation, whose losses then depend on later tokens and on the batch; generation is dropless.",
           {.fallback = "no limit: nothing is dropped"}),
      choice<DropPolicy>("drop_policy", c.drop_policy,
                         {{"probability", DropPolicy::kProbability}, {"position", DropPolicy::kPosition}},
                         "Who keeps the places of a full expert: the most probable assignments, or the earliest."),
  };
}

Fields mixture_of_depths_fields(MixtureOfDepthsConfig& c) {
  return {
      real("capacity_factor", c.capacity_factor, {0, 1, true}, "Share of a sequence's tokens that pass the block."),
      make("layer_freq", LayerListValue{&c.layer_freq},
           "Which layers are passed by some tokens only. n: the last of every n layers; or a list with 0 or 1 for each "
           "layer."),
      real("predictor_coeff", c.predictor_coeff, kCoefficient,
           "Weight of the loss of the predictor that decides, from one token alone, in generation."),
  };
}

}  // namespace switchyard
