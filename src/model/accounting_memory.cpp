#include <algorithm>

#include "model/accounting.h"
#include "model/accounting_block.h"

namespace switchyard {
namespace {

double as_double(int64_t value) { return static_cast<double>(value); }

// Elements per token: norm input and output, queries, keys and values per query head, mixed heads twice (as matrices
// and joined), probabilities.
double attention_activations(const Config& config) {
  const ModelConfig& model = config.model;
  const double heads = as_double(model.num_attention_heads);
  double elements = 2 * as_double(model.hidden_size);
  if (model.latent_attention) {
    const LatentAttentionConfig& latent = *model.latent_attention;
    const int64_t query = latent.qk_nope_head_dim + latent.qk_rope_head_dim;
    elements +=
        2 * as_double(latent.q_lora_rank.value_or(0) + latent.kv_lora_rank);  // a latent norm's input and output
    elements += heads * as_double(2 * query + 3 * *latent.v_head_dim);
  } else {
    elements += 5 * heads * as_double(*model.head_dim);
  }
  if (config.training.seq_length <= 512) elements += heads * as_double(config.training.seq_length);
  return elements;
}

// The rows of a token's experts, in and out, and two values per hidden unit: gate and up, or before and after the
// activation.
double experts_activations(const Config& config) {
  const ModelConfig& model = config.model;
  const MoeConfig& moe = *config.moe;
  const double width = as_double(*moe.intermediate_size);
  double elements = as_double(active_experts(moe)) * (2 * as_double(model.hidden_size) + 2 * width);
  elements += 2 * width * as_double(moe.num_shared_experts);
  if (moe.dense_residual) elements += 2 * as_double(*model.intermediate_size);
  return elements;
}

// Elements kept for the backward of one block, per token, in the compute type (see the forward passes in model/).
double block_activations(const Config& config, int64_t layer) {
  const ModelConfig& model = config.model;
  const double hidden = as_double(model.hidden_size);
  double elements = attention_activations(config) + 2 * hidden;  // with the second norm's input and output
  if (model.post_norm) elements += 2 * hidden;
  if (is_moe_layer(config, layer)) {
    elements += experts_activations(config);
    const double routing = hidden + 3 * as_double(router_rows(config));  // in float32
    elements += routing * (config.training.precision == Precision::kBf16 ? 2.0 : 1.0);
  } else {
    elements += 2 * as_double(*model.intermediate_size);
  }
  // Tokens that pass a layer by leave its input only.
  return is_depth_layer(config, layer) ? hidden + passing_share(config, layer) * elements : elements;
}

}  // namespace

MemoryEstimate estimate_memory(const Config& config) {
  const double parameters = as_double(count_parameters(config).total);
  const bool bf16 = config.training.precision == Precision::kBf16;
  const double tokens = as_double(config.training.micro_batch_size * config.training.seq_length);
  const double vocabulary = as_double(*config.model.vocab_size);
  double elements = 3 * as_double(config.model.hidden_size);  // last norm's input and output, and the loss's gradient
  for (int64_t layer = 0; layer < config.model.num_layers; ++layer) elements += block_activations(config, layer);
  const double element = as_double(element_bytes(config.training.precision));
  const double weight = as_double(weight_bytes(config.training.precision));
  MemoryEstimate memory;
  memory.weights = weight * parameters;
  memory.gradients = weight * parameters;
  memory.optimizer = 2 * weight * parameters;
  memory.activations = elements * tokens * element;
  if (const int64_t predictions = predictions_per_token(config); predictions > 1) {
    memory.activations += as_double(predictions) * tokens * vocabulary * std::max(element, 4.0);  // log softmax of each
  } else {
    memory.activations +=
        std::min(tokens * vocabulary, std::max(64 * vocabulary, 4.0 * (1 << 20))) * element;  // logits of a chunk
  }
  memory.activations += vocabulary * as_double(config.model.hidden_size) * (element + weight);
  if (bf16) memory.activations += 2 * parameters;
  return memory;
}

}  // namespace switchyard
