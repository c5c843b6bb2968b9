#include "model/transformer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/modules/container/modulelist.h>

#include "base/random.h"
#include "ops/linear_cross_entropy.h"
#include "ops/matrix_product.h"
#include "ops/mixture_cross_entropy.h"
#include "ops/recompute.h"
#include "ops/soft_cap.h"
#include "ops/step_parts.h"

namespace switchyard {

using torch::Tensor;

namespace {

bool ends_with_any(const std::string& name, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return std::string_view(name).ends_with(ending); });
}

bool is_of_experts(const std::string& name) { return name.find(".experts.") != std::string::npos; }
bool is_of_router(const std::string& name) { return name.find(".router.") != std::string::npos; }
bool is_of_depth_router(const std::string& name) { return name.find(".depth.") != std::string::npos; }

uint64_t hash_name(const std::string& name) {
  uint64_t hash = 0;
  for (const char c : name) hash = mix_bits(hash ^ static_cast<unsigned char>(c));
  return hash;
}

}  // namespace

BlockImpl::BlockImpl(const Config& config, int64_t layer, std::optional<ExpertRange> experts)
    : dropout_(config.model.dropout), recompute_(config.training.recompute) {
  const ModelConfig& model = config.model;
  const auto make_norm = [&](const std::string& name) { return Norm(*this, name, model.hidden_size, model); };
  attention_norm_ = make_norm("attention_norm");
  attention_ = register_module("attention", make_attention(model, layer));
  if (model.post_norm) attention_post_norm_ = make_norm("attention_post_norm");
  feed_forward_norm_ = make_norm("feed_forward_norm");
  if (model.post_norm) feed_forward_post_norm_ = make_norm("feed_forward_post_norm");
  if (is_moe_layer(config, layer)) {
    moe_ = register_module("moe", MoeLayer(*config.moe, model, layer, experts));
  } else {
    mlp_ = register_module("mlp", FeedForward(model, 1, model.intermediate_size.value(), /*stacked=*/false));
  }
  if (is_depth_layer(config, layer)) {
    depth_ = register_module("depth", DepthRouter(*config.mixture_of_depths, model.hidden_size, layer));
  }
  if (recompute_ != Recompute::kSelective) return;
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto* feed_forward = module->as<FeedForward>()) feed_forward->set_inner(Inner::kRecomputed);
  }
}

Tensor BlockImpl::feed_forward(const Tensor& x, const Context& context, std::vector<RouterOutput>& routers) {
  if (mlp_) {
    const StepPartScope part(StepPart::kExperts);
    return mlp_->forward(x);
  }
  const RouterInput input{.x = x,
                          .token_ids = context.token_ids,
                          .positions = context.positions,
                          .num_sequences = context.num_sequences,
                          .incremental = context.cache != nullptr,
                          .active = context.active};
  auto [y, routing] = moe_->forward(input, *context.dispatcher, context.capacity_factor, context.measure);
  routers.push_back(std::move(routing));
  return y;
}

Tensor BlockImpl::attend(const Tensor& x, const Context& context) {
  const StepPartScope part(StepPart::kAttention);
  return attention_->forward(x, context.rotary, context.cache);
}

BlockImpl::Parts BlockImpl::parts(const Tensor& x, const Context& context, std::vector<RouterOutput>& routers) {
  const auto dropout = [&](const Tensor& y) { return dropout_ > 0 ? torch::dropout(y, dropout_, is_training()) : y; };
  const Tensor attended = dropout(attention_post_norm_(attend(attention_norm_(x), context)));
  const Tensor middle = x + attended;
  const Tensor normed = feed_forward_norm_(middle).flatten(0, 1);
  const Tensor fed = feed_forward_post_norm_(feed_forward(normed, context, routers));
  if (moe_ && routers.back().alone.defined()) {
    const Tensor alone = feed_forward_post_norm_(routers.back().alone);
    *context.alternatives = middle.flatten(0, 1) + dropout(alone);
  }
  return {attended, middle, dropout(fed).view_as(x)};
}

// Mixture of Depths: the block as if there were only the selected tokens, at the positions that they have.
Tensor BlockImpl::through_depth(const Tensor& x, const Context& context, std::vector<RouterOutput>& routers) {
  const auto [output, selection] = depth_->forward(x, context.cache != nullptr);
  if (context.depths != nullptr) context.depths->push_back(output);
  if (selection.empty()) return x;
  Context selected = context;
  selected.rotary = rotary_at(context.rotary, selection.places);
  selected.token_ids = take_per_token(context.token_ids, selection);
  selected.positions = take_per_token(context.positions, selection);
  selected.active = selection.active;
  const Tensor taken = take_selected(x, selection);
  const Parts added = parts(taken, selected, routers);
  return add_to_selected(x, selection, taken, added.attended + added.fed);
}

Tensor BlockImpl::through(const Tensor& x, const Context& context, std::vector<RouterOutput>& routers) {
  if (depth_) return through_depth(x, context, routers);
  const Parts added = parts(x, context, routers);
  return added.middle + added.fed;
}

Tensor BlockImpl::forward(Tensor x, const Context& context, std::vector<RouterOutput>& routers) {
  if (recompute_ != Recompute::kFull || context.cache != nullptr) return through(x, context, routers);
  const auto self = std::static_pointer_cast<BlockImpl>(shared_from_this());
  const auto again = [self, context](const Tensor& input) {
    // Its first run has handed these out.
    std::vector<RouterOutput> routers;
    Tensor alternatives;
    Context same = context;
    same.measure = false;
    same.depths = nullptr;
    same.alternatives = &alternatives;
    return self->through(input, same, routers);
  };
  return recomputed(
      x, [&](const Tensor& input) { return through(input, context, routers); }, again);
}

TransformerImpl::TransformerImpl(const Config& config, std::optional<ExpertRange> experts)
    : config_(config), experts_(experts) {
  const ModelConfig& model = config.model;
  embed_tokens_ = register_parameter("embed_tokens", torch::empty({model.vocab_size.value(), model.hidden_size}));
  if (model.position_embedding == PositionEmbedding::kLearned) {
    embed_positions_ =
        register_parameter("embed_positions", torch::empty({config.training.seq_length, model.hidden_size}));
  }
  const auto blocks = register_module("layers", torch::nn::ModuleList());
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    layers_.emplace_back(config, layer, experts);
    blocks->push_back(layers_.back());
  }
  norm_ = Norm(*this, "norm", model.hidden_size, model);
  if (!model.tie_word_embeddings) lm_head_ = register_parameter("lm_head", torch::empty_like(embed_tokens_));
}

void TransformerImpl::initialise(uint64_t seed) {
  const torch::NoGradGuard no_grad;
  const double base = config_.model.init_std;
  const double residual = base / std::sqrt(2.0 * static_cast<double>(config_.model.num_layers));
  for (const auto& parameter : named_parameters()) {
    const std::string& name = parameter.key();
    std::vector<int64_t> shape = parameter.value().sizes().vec();
    const bool part = experts_ && is_of_experts(name);
    if (part) shape[0] = config_.moe->num_experts;
    Tensor value = torch::empty(shape, torch::kFloat32);
    double std = base;
    if (ends_with_any(name, {"o_proj", "down_proj"})) std = residual;
    if (is_of_router(name)) std = base * config_.moe->router.init_scale.value();
    if (ends_with_any(name, {"norm", "router.scale"})) {
      value.fill_(1);
    } else if (ends_with_any(name, {"_bias"})) {
      value.zero_();
    } else {
      auto generator =
          at::detail::createCPUGenerator(random_word(seed, RandomPurpose::kInitialisation, {hash_name(name)}));
      value.normal_(0, std, generator);
    }
    Tensor target = parameter.value();
    target.copy_(part ? value.narrow(0, experts_->first, experts_->count) : value);
  }
}

void TransformerImpl::cast_matrices() {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : named_parameters()) {
    const std::string& name = parameter.key();
    if (parameter.value().dim() < 2 || is_of_router(name) || is_of_depth_router(name)) continue;
    parameter.value().set_data(parameter.value().to(compute_type_));
  }
}

// The first block's input: tokens [B, S] behind `past` others -> [B, S, D].
Tensor TransformerImpl::embedded(const Tensor& tokens, int64_t past) const {
  const StepPartScope part(StepPart::kEmbedding);
  const ModelConfig& model = config_.model;
  Tensor x = torch::embedding(embed_tokens_, tokens).to(compute_type_);
  if (model.embedding_scale != 1) x = x * model.embedding_scale;
  if (embed_positions_.defined()) {
    const int64_t end = past + tokens.size(1);
    TORCH_CHECK_VALUE(end <= embed_positions_.size(0), "the model has learned positions for ", embed_positions_.size(0),
                      " tokens (training.seq_length), not for ", end);
    x = x + embed_positions_.narrow(0, past, tokens.size(1)).to(compute_type_);
  }
  return model.dropout > 0 ? torch::dropout(x, model.dropout, is_training()) : x;
}

RotaryTable TransformerImpl::rotary(int64_t first, int64_t count, int64_t capacity) {
  const auto options = torch::TensorOptions(compute_type_).device(embed_tokens_.device());
  if (!rotary_.cos.defined() || rotary_.cos.size(0) < first + count || rotary_.cos.device() != options.device()) {
    rotary_ = rotary_table(0, std::max(first + count, capacity), rotary_width(config_.model), config_.model.rope_theta,
                           options);
  }
  return {rotary_.cos.narrow(0, first, count), rotary_.sin.narrow(0, first, count)};
}

ModelOutput TransformerImpl::forward(const Tensor& tokens, KvCache* cache) {
  const int64_t past = cache == nullptr ? 0 : cache->length;
  TORCH_CHECK_VALUE(cache == nullptr || past + tokens.size(1) <= cache->capacity, "the cache has room for ",
                    cache == nullptr ? 0 : cache->capacity, " positions, not for ", past + tokens.size(1));
  const ModelConfig& model = config_.model;
  BlockImpl::Context context{
      .rotary = {},
      .dispatcher = dispatcher_.get(),
      .capacity_factor = std::nullopt,
      .cache = nullptr,
      .token_ids = tokens.flatten(),
      .positions = torch::arange(past, past + tokens.size(1), tokens.options()).expand_as(tokens).flatten(),
      .num_sequences = tokens.size(0)};
  if (config_.moe && cache == nullptr) {
    context.capacity_factor = is_training() ? config_.moe->capacity_factor : config_.moe->eval_capacity_factor;
  }
  if (model.position_embedding == PositionEmbedding::kRotary) {
    context.rotary = rotary(past, tokens.size(1), cache == nullptr ? 0 : cache->capacity);
  }
  ModelOutput output;
  context.depths = &output.depths;
  context.alternatives = &output.alternatives;
  context.measure = measuring_;
  Tensor x = embedded(tokens, past);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    context.cache = cache == nullptr ? nullptr : &cache->layers[layer];
    x = layers_[layer]->forward(x, context, output.routers);
  }
  output.hidden = norm_(x).flatten(0, 1);
  if (output.alternatives.defined()) output.alternatives = norm_(output.alternatives);
  if (cache != nullptr) cache->length += tokens.size(1);
  return output;
}

void TransformerImpl::after_step(const Tensor& tokens_per_expert, const std::vector<Tensor>& observed) {
  const torch::NoGradGuard no_grad;
  int64_t row = 0;
  for (Block& block : layers_) {
    if (Router* router = block->router()) {
      router->after_step(tokens_per_expert[row], observed[static_cast<size_t>(row)]);
      ++row;
    }
  }
}

// Scaling what goes into the output projection scales its result.
Tensor TransformerImpl::scaled(const Tensor& hidden) const {
  return config_.model.logit_scale == 1 ? hidden : hidden * config_.model.logit_scale;
}

Tensor TransformerImpl::logits(const Tensor& hidden) const {
  const Tensor logits = linear_map(scaled(hidden), output_weight());
  return config_.model.logit_softcap ? soft_cap(logits, *config_.model.logit_softcap) : logits;
}

Tensor TransformerImpl::next_token_logits(const ModelOutput& output) const {
  const int64_t last = output.hidden.size(0) - 1;
  if (!output.alternatives.defined()) return logits(output.hidden.narrow(0, last, 1)).squeeze(0);
  const Tensor gate = output.routers.back().logits.narrow(0, last, 1);
  return mixture_log_probabilities(scaled(output.alternatives.narrow(1, last, 1)), gate, output_weight(),
                                   config_.model.logit_softcap)
      .squeeze(0);
}

Tensor TransformerImpl::language_model_loss(const ModelOutput& output, const Tensor& targets) const {
  const StepPartScope part(StepPart::kLoss);
  const std::optional<double> softcap = config_.model.logit_softcap;
  if (!output.alternatives.defined()) {
    return linear_cross_entropy(scaled(output.hidden), output_weight(), targets, softcap);
  }
  return mixture_cross_entropy(scaled(output.alternatives), output.routers.back().logits, output_weight(), targets,
                               softcap);
}

KvCache TransformerImpl::make_cache(int64_t batch, int64_t capacity) const {
  const auto options = torch::TensorOptions(compute_type_).device(embed_tokens_.device());
  KvCache cache;
  cache.capacity = capacity;
  for (const Block& block : layers_) cache.layers.push_back(block->attention().make_cache(batch, capacity, options));
  return cache;
}

}  // namespace switchyard
