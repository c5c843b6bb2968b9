// What a training step holds, stage by stage: a stage is what the backward pass goes through at one time (half a block,
// the output projection, the embedding).
#include <algorithm>
#include <cmath>

#include "model/accounting.h"
#include "model/accounting_block.h"
#include "ops/block_sizes.h"
#include "ops/matrix_product.h"
#include "ops/permutation.h"

namespace switchyard {
namespace {

// Bytes.
struct Stage {
  double kept = 0;       // from the forward to the backward pass
  double room = 0;       // more, while the stage's backward (or forward) runs
  double gradients = 0;  // of its parameters
  double copies = 0;     // of its parameters, in the type that is computed in
  double sums = 0;       // what is received to be added up of them, but for the experts'
  double expert_sums = 0;
  double waiting = 0;  // of the gradients, what an earlier stage's are added to before they are accumulated
};

class Steps {
 public:
  Steps(const Config& config, const StepShare& share)
      : config_(config),
        model_(config.model),
        share_(share),
        recompute_(config.training.recompute),
        cuda_(config.training.device == DeviceKind::kCuda),
        bf16_(config.training.precision == Precision::kBf16),
        element_(as_double(element_bytes(config.training.precision))),
        weight_(as_double(weight_bytes(config.training.precision))),
        tokens_(as_double(config.training.micro_batch_size * config.training.seq_length)) {}

  // In the order of the forward pass.
  std::vector<Stage> stages() const {
    std::vector<Stage> all = {embedding()};
    for (int64_t layer = 0; layer < model_.num_layers; ++layer) {
      const double tokens = passing_share(config_, layer) * tokens_;
      const std::vector<ComponentCost> parts = block_costs(config_, layer);
      Stage first = attention(tokens, as_double(parts[0].parameters.total));
      // Tokens that pass a layer by leave its input only.
      if (is_depth_layer(config_, layer)) first.kept += tokens_ * hidden() * element_;
      double others = 0;
      for (size_t i = 1; i < parts.size(); ++i) others += as_double(parts[i].parameters.total);
      Stage second = is_moe_layer(config_, layer) ? experts(layer, tokens, others) : feed_forward(tokens, others);
      if (recompute_ == Recompute::kFull) {
        const double again = first.kept - tokens_ * hidden() * element_;
        first.kept -= again;
        first.room += again;
        // Both halves run again before the second one's backward.
        const double said = is_moe_layer(config_, layer) ? routing(layer, tokens) : 0;
        second.room += again + second.kept - said;
        second.kept = said;
      }
      all.push_back(first);
      all.push_back(second);
    }
    all.push_back(head());
    return all;
  }

 private:
  double hidden() const { return as_double(model_.hidden_size); }
  // Bytes that an element in float32 (float64) takes.
  double wide() const { return std::max(element_, 4.0); }
  double cast(double parameters) const { return bf16_ ? element_ * parameters : 0; }

  // Of a block: nearly all are projections, of which the model has copies to compute with and gets gradients in their
  // type.
  Stage of_parameters(double parameters, bool summed) const {
    Stage stage;
    stage.copies = cast(parameters);
    stage.gradients = (bf16_ ? element_ : weight_) * parameters;
    stage.sums = summed ? weight_ * parameters : 0;
    return stage;
  }

  Stage embedding() const {
    double parameters = as_double(*model_.vocab_size) * hidden();
    if (model_.position_embedding == PositionEmbedding::kLearned) {
      parameters += as_double(config_.training.seq_length) * hidden();
    }
    Stage stage;
    stage.gradients = weight_ * parameters;
    stage.sums = share_.holds_shared_sums ? stage.gradients : 0;
    stage.room = 2 * tokens_ * hidden() * element_;
    return stage;
  }

  // Whether attention is that of ops/limited_attention.h, in some layer at least.
  bool has_limited_attention() const {
    return model_.attention_softcap || (!cuda_ && model_.sliding_window && !model_.sliding_window_layers.empty());
  }

  // What the backward pass of a block of limited attention has at once of the size of its scores.
  double scores_of_a_block(double tokens) const {
    const auto length = config_.training.seq_length;
    const int64_t seen = std::min(length, model_.sliding_window.value_or(length) + kLimitedAttentionRows);
    return (model_.attention_softcap ? 8 : 6) * tokens / as_double(length) * as_double(model_.num_attention_heads) *
           as_double(std::min(length, kLimitedAttentionRows) * seen) * wide();
  }

  // Norm input and output, queries, keys and values, mixed heads; with the fused loop a sum for every query, with
  // ATen's attention keys and values once per query head.
  Stage attention(double tokens, double parameters) const {
    const double heads = as_double(model_.num_attention_heads);
    const bool limited = has_limited_attention();
    const bool fused = limited || (!cuda_ && config_.training.seq_length <= kLongestFusedAttention);
    const double mixed = fused ? 1 : 2;  // joined; ATen's attention keeps them head by head as well
    double elements = (model_.post_norm ? 3 : 2) * hidden();
    double qkv = 0;
    double values = 0;
    if (model_.latent_attention) {
      const LatentAttentionConfig& latent = *model_.latent_attention;
      values = heads * as_double(*latent.v_head_dim);
      qkv = 2 * heads * as_double(latent.qk_nope_head_dim + latent.qk_rope_head_dim) + values;
      // A latent norm's input and output.
      elements += 2 * as_double(latent.q_lora_rank.value_or(0) + latent.kv_lora_rank);
    } else {
      values = heads * as_double(*model_.head_dim);
      const double key_values = as_double(*model_.num_key_value_heads * *model_.head_dim);
      qkv = values + 2 * (fused ? key_values : values);
      if (model_.qk_norm != QkNorm::kNone) {
        elements += values + key_values;
      }
    }
    elements += qkv + mixed * values;
    Stage stage = of_parameters(parameters, share_.holds_shared_sums);
    stage.kept += tokens * (elements * element_ + (fused && !limited ? heads * wide() : 0));
    // Gradients of the stream, of the mixed heads, and of queries, keys and values; when these are joined, what they
    // are gradients of is gone.
    stage.room = tokens * (2 * hidden() + values + qkv) * element_ + (limited ? scores_of_a_block(tokens) : 0);
    return stage;
  }

  // Values that a feed-forward of width 1 has: gate and up, or what is before the activation; and what it keeps of
  // them.
  double per_width() const { return is_gated(model_.activation) ? 2 : 1; }
  double per_width_kept() const { return recompute_ == Recompute::kSelective ? 0 : per_width(); }

  // What comes in and what the norm makes of it (kept where something reads it again), and a norm behind.
  double around(bool normed_kept) const { return (1 + (normed_kept ? 1 : 0) + (model_.post_norm ? 1 : 0)) * hidden(); }

  // Elements beside rows in and out while the backward pass of `experts` feed-forwards of this width runs: gradients of
  // the hidden values and the activation, which the CPU has of a group of experts, and the activation's gradient (and
  // recomputed hidden values), which it has of a piece of the rows.
  double mlp_room(double rows, double experts, double width) const {
    const double one = rows / experts;
    const double at_once = cuda_ ? rows : std::min(one, as_double(kExpertPieceRows));
    const double inner = (1 + per_width()) * width;
    const double together = std::max(1.0, std::floor(as_double(kExpertGroupBytes) / (inner * element_ * one)));
    const double group = std::min(rows, together * one);
    return (cuda_ ? rows : group) * inner + at_once * (1 + per_width() - per_width_kept()) * width;
  }

  Stage feed_forward(double tokens, double parameters) const {
    const double width = as_double(*model_.intermediate_size);
    Stage stage = of_parameters(parameters, share_.holds_shared_sums);
    stage.kept += tokens * (around(true) + per_width_kept() * width) * element_;
    stage.room = (tokens * 2 * hidden() + mlp_room(tokens, 1, width)) * element_;
    return stage;
  }

  // What rounding up adds to the rows of this process's experts (ops/permutation.h).
  double rounding(double rows) const {
    const int64_t here = config_.moe->num_experts / share_.expert_parallel_size;
    if (cuda_ || config_.moe->router.type == RouterType::kSoftMoe) return 0;
    return as_double(here * (row_alignment(static_cast<int64_t>(rows), here) - 1)) / 2;
  }

  // What a router hands out: logits and probabilities, ids and weights of the choices.
  double routing(int64_t layer, double tokens) const {
    const double scores = std::max(as_double(router_rows(config_)), as_double(config_.moe->num_experts));
    return tokens * 2 * scores * wide() + rows_to_experts(config_, layer) * (8.0 + wide());
  }

  Stage experts(int64_t layer, double tokens, double parameters) const {
    const MoeConfig& moe = *config_.moe;
    const bool spread = share_.expert_parallel_size > 1;
    const double routed = as_double(expert_parameters(config_));
    const double here = routed / as_double(share_.expert_parallel_size);
    const double width = as_double(*moe.intermediate_size);
    const double sent = rows_to_experts(config_, layer);
    const double computed = share_.expert_rows * sent + rounding(share_.expert_rows * sent);
    Stage stage = of_parameters(parameters - routed, share_.holds_shared_sums);
    const Stage own = of_parameters(here, share_.holds_expert_sums);
    stage.copies += own.copies;
    stage.gradients += own.gradients;
    stage.expert_sums = own.sums;

    const double scores = as_double(router_rows(config_));
    const bool beside = moe.num_shared_experts > 0 || moe.dense_residual;
    double elements = around(beside || (scores > 0 && !bf16_));
    elements += per_width_kept() * width * as_double(moe.num_shared_experts);
    if (moe.dense_residual) elements += per_width_kept() * as_double(*model_.intermediate_size);
    stage.kept += tokens * elements * element_;
    // The router's input in float32, what it says, and places of the choices.
    stage.kept += tokens * (bf16_ && scores > 0 ? hidden() : 0) * wide();
    stage.kept += routing(layer, tokens) + sent * 2 * 8.0;
    // A row in, its hidden values, and a row out; where experts are spread, once more behind the way back.
    stage.kept += computed * (2 * hidden() + per_width_kept() * width) * element_;
    if (spread) stage.kept += sent * hidden() * element_ + computed * (3 * 8.0 + wide());
    const double experts_here = as_double(moe.num_experts / share_.expert_parallel_size);
    stage.room = (tokens * 2 * hidden() + computed * hidden() + mlp_room(computed, experts_here, width)) * element_;
    return stage;
  }

  Stage head() const {
    const double matrix = as_double(*model_.vocab_size) * hidden();
    const double vocabulary = as_double(*model_.vocab_size);
    const double stream = tokens_ * hidden() * element_;
    Stage stage;
    stage.gradients = weight_ * matrix;
    stage.sums = !model_.tie_word_embeddings && share_.holds_shared_sums ? stage.gradients : 0;
    stage.waiting = model_.tie_word_embeddings ? stage.gradients : 0;
    const double predictions = as_double(predictions_per_token(config_));
    if (predictions > 1) {
      // Logits, their logarithmic softmax, and the gradient of both.
      stage.kept = 2 * stream + cast(matrix) + predictions * tokens_ * vocabulary * wide();
      stage.room = 2 * predictions * tokens_ * vocabulary * wide();
      return stage;
    }
    // The gradients of the hidden states and of the matrix are computed in the forward pass.
    stage.kept = 3 * stream + weight_ * matrix;
    const double at_once = as_double(cuda_ ? kLogitsChunkElementsOnDevice : kLogitsChunkElements);
    const double chunk = std::min(tokens_ * vocabulary, std::max(kLogitsChunkRows * vocabulary, at_once));
    const bool added_in_place = !cuda_ && has_product_loop(bf16_ ? torch::kBFloat16 : torch::kFloat32);
    double forward = (chunk + (added_in_place ? 0 : matrix)) * element_ + cast(matrix);
    if (cuda_) forward += chunk * wide();  // the logarithms of the probabilities
    stage.room = std::max(forward - stage.gradients, stream);
    return stage;
  }

  const Config& config_;
  const ModelConfig& model_;
  const StepShare& share_;
  Recompute recompute_;
  bool cuda_;
  bool bf16_;
  double element_;  // bytes of a value of the compute
  double weight_;   // bytes of a parameter
  double tokens_;   // of a micro-batch
};

}  // namespace

MemoryEstimate estimate_memory(const Config& config, const StepShare& share) {
  const double weight = as_double(weight_bytes(config.training.precision));
  const double routed = as_double(count_expert_parameters(config));
  const double parameters =
      as_double(count_parameters(config).total) - routed + routed / as_double(share.expert_parallel_size);
  MemoryEstimate memory;
  memory.weights = weight * parameters;
  memory.optimizer = 2 * weight * parameters;
  const std::vector<Stage> stages = Steps(config, share).stages();
  double kept = 0;
  double copies = 0;
  for (const Stage& stage : stages) {
    kept += stage.kept;
    copies += stage.copies;
  }
  memory.weights += copies;
  memory.activations = kept;
  // Back through the stages. Gradients of earlier micro-batches are there from the start, in the masters' type.
  const int64_t all = *config.training.global_batch_size / config.training.micro_batch_size;
  const bool accumulates = (share.micro_batches > 0 ? share.micro_batches : all) > 1;
  // One of a copy takes as much as the copy.
  const double copied = copies / as_double(element_bytes(config.training.precision));
  memory.gradients = weight * parameters - (accumulates ? 0 : weight * copied - copies);
  double gradients = accumulates ? memory.gradients : 0;
  double waiting = 0;
  double sums = 0;
  double expert_sums = 0;
  // Of the parameters passed so far; a bucket leaves when it is full.
  const double bucket = as_double(config.parallel.bucket_megabytes << 20);
  const auto received = [&](double bytes) { return bucket * std::floor(bytes / bucket); };
  double most = 0;
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
    most = std::max(
        most, kept + stage->room + stage->gradients + waiting + gradients + received(sums) + received(expert_sums));
    kept -= stage->kept;
    if (accumulates) waiting += stage->waiting;
    // What is added in place is gone; copies' gradients are added at the end.
    if (!accumulates || stage->copies > 0) gradients += stage->gradients;
    sums += stage->sums;
    expert_sums += stage->expert_sums;
  }
  memory.total = memory.weights + memory.optimizer + std::max(most, gradients + sums + expert_sums);
  return memory;
}

double expert_row_bytes(const Config& config) {
  const ModelConfig& model = config.model;
  const double hidden = as_double(model.hidden_size);
  const double width = as_double(*config.moe->intermediate_size);
  const double inner = (is_gated(model.activation) ? 2 : 1) * width;
  const double kept = config.training.recompute == Recompute::kSelective ? 0 : inner;
  // Kept: the row, its hidden values and its result. In the backward pass: gradients of both, and the activation.
  return (2 * hidden + kept + hidden + inner + width) * as_double(element_bytes(config.training.precision));
}

}  // namespace switchyard
