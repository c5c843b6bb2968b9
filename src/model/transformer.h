// A decoder-only transformer whose blocks have a dense feed-forward or experts.
// Legend: B batch, S sequence, T = B * S tokens, D hidden, V vocabulary, L layers.
#pragma once

#include <memory>
#include <vector>

#include "config/config.h"
#include "model/attention_layer.h"
#include "model/depth_router.h"
#include "model/moe/moe_layer.h"
#include "model/norm.h"
#include "ops/torch.h"

namespace switchyard {

// What generation keeps between calls.
struct KvCache {
  std::vector<LayerCache> layers;  // one per block
  int64_t length = 0;              // positions seen
  int64_t capacity = 0;            // positions there is room for
};

struct ModelOutput {
  torch::Tensor hidden;               // [T, D] after the last norm, in the compute type
  std::vector<RouterOutput> routers;  // one per MoE block, in order; with a cache none of a block that no token entered
  std::vector<DepthOutput> depths;    // one per block that tokens may skip, in order
  // With moe.router.error competitive [E, T, D]: as `hidden`, where each expert of the last block answers alone. The
  // prediction is then the mixture of theirs, weighted by the gate: the softmax of routers.back().logits.
  torch::Tensor alternatives{};
};

class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const Config& config, int64_t layer, std::optional<ExpertRange> experts = std::nullopt);

  struct Context {
    RotaryTable rotary;  // undefined tables without rotary embedding
    Dispatcher* dispatcher;
    std::optional<double> capacity_factor;
    LayerCache* cache;
    torch::Tensor token_ids;  // [T]
    torch::Tensor positions;  // [T]
    int64_t num_sequences;
    torch::Tensor active{};                      // [T] bool, tokens that count; undefined: all
    bool measure = false;                        // fill RouterOutput::output_norms
    std::vector<DepthOutput>* depths = nullptr;  // where a block that tokens may skip appends; null: nowhere
    torch::Tensor* alternatives = nullptr;       // where a block whose experts compete puts [E, T, D]
  };
  // x [B, S, D] -> [B, S, D]; a MoE block appends to `routers`. With training.recompute full the backward pass runs it
  // again (ops/recompute.h), and its collectives.
  torch::Tensor forward(torch::Tensor x, const Context& context, std::vector<RouterOutput>& routers);
  // Null in a dense block.
  Router* router() { return moe_ ? &moe_->router() : nullptr; }
  const Attention& attention() const { return *attention_; }

 private:
  // The two terms that a block adds to x, and the stream between them.
  struct Parts {
    torch::Tensor attended;  // [B, S, D]
    torch::Tensor middle;    // [B, S, D] x + attended
    torch::Tensor fed;       // [B, S, D]
  };
  torch::Tensor attend(const torch::Tensor& x, const Context& context);
  Parts parts(const torch::Tensor& x, const Context& context, std::vector<RouterOutput>& routers);
  torch::Tensor feed_forward(const torch::Tensor& x, const Context& context, std::vector<RouterOutput>& routers);
  torch::Tensor through_depth(const torch::Tensor& x, const Context& context, std::vector<RouterOutput>& routers);
  torch::Tensor through(const torch::Tensor& x, const Context& context, std::vector<RouterOutput>& routers);

  double dropout_;
  Recompute recompute_;
  Norm attention_norm_;          // [D]
  Norm feed_forward_norm_;       // [D]
  Norm attention_post_norm_;     // [D], none without model.post_norm
  Norm feed_forward_post_norm_;  // [D]
  std::shared_ptr<Attention> attention_;
  FeedForward mlp_{nullptr};    // a dense block has this
  MoeLayer moe_{nullptr};       // a MoE block has this
  DepthRouter depth_{nullptr};  // a block that tokens may skip has this
};
TORCH_MODULE(Block);

class TransformerImpl : public torch::nn::Module {
 public:
  // Parameters are allocated, not initialised: see initialise(). config must be resolved, vocab_size set. `experts`:
  // those of each layer that this process holds; default: all. Then a dispatcher must reach the others.
  explicit TransformerImpl(const Config& config, std::optional<ExpertRange> experts = std::nullopt);

  // Fills every parameter from its own stream of (seed, name), so that values do not depend on how parameters are
  // spread over processes: normal(0, init_std); residual projections init_std / sqrt(2 L) (Radford et al. 2019);
  // routers init_std * init_scale (Fedus et al. 2022, section 2.4); norms one; biases zero.
  void initialise(uint64_t seed);

  // The floating type of activations and matrix products; parameters keep theirs. Default: float32.
  void set_compute_type(torch::ScalarType type) {
    compute_type_ = type;
    rotary_ = {};
  }
  torch::ScalarType compute_type() const { return compute_type_; }
  // Replaces matrices by copies in the compute type, for inference: nothing is cast from then on. Routers keep theirs.
  void cast_matrices();
  // Replaces the way tokens reach experts; the default is a LocalDispatcher.
  void set_dispatcher(std::shared_ptr<Dispatcher> dispatcher) { dispatcher_ = std::move(dispatcher); }

  // Whether forward fills RouterOutput::output_norms. Default: no.
  void set_measuring(bool measure) { measuring_ = measure; }

  // tokens [B, S] int64 in [0, V). With a cache, they follow its `length` positions and the cache moves on; experts are
  // then dropless whatever the capacity factor. More positions than the cache, or learned positions, have room for:
  // c10::ValueError. Collectives: those of the dispatcher.
  ModelOutput forward(const torch::Tensor& tokens, KvCache* cache = nullptr);
  // Passes on to every router what the step's routing was, after the update: see Router::after_step(). One entry (a
  // row) per MoE layer, in order. tokens_per_expert [layers, E].
  void after_step(const torch::Tensor& tokens_per_expert, const std::vector<torch::Tensor>& observed);
  // hidden [N, D] of ModelOutput -> [N, V], model.logit_scale and model.logit_softcap included.
  torch::Tensor logits(const torch::Tensor& hidden) const;
  // Numbers whose softmax is what the model predicts after the last of the tokens: [V]. The logits of `hidden` or, with
  // alternatives, the logarithms of the mixture's probabilities.
  torch::Tensor next_token_logits(const ModelOutput& output) const;
  // The mean cross-entropy of what the model predicts against targets [T], as ops/linear_cross_entropy.h has it or,
  // with alternatives, ops/mixture_cross_entropy.h: a scalar, nats per token. Collectives: none.
  torch::Tensor language_model_loss(const ModelOutput& output, const torch::Tensor& targets) const;
  // The [V, D] matrix of the output projection (the embedding when tied).
  const torch::Tensor& output_weight() const { return lm_head_.defined() ? lm_head_ : embed_tokens_; }

  KvCache make_cache(int64_t batch, int64_t capacity) const;
  const Config& config() const { return config_; }

 private:
  torch::Tensor embedded(const torch::Tensor& tokens, int64_t past) const;
  torch::Tensor scaled(const torch::Tensor& hidden) const;
  // Angles of positions [first, first + count), of a table that is kept; it is made for `capacity` positions or more.
  RotaryTable rotary(int64_t first, int64_t count, int64_t capacity);

  Config config_;
  std::optional<ExpertRange> experts_;
  torch::ScalarType compute_type_ = torch::kFloat32;
  bool measuring_ = false;
  RotaryTable rotary_;  // of positions from 0 on
  std::shared_ptr<Dispatcher> dispatcher_ = std::make_shared<LocalDispatcher>();
  torch::Tensor embed_tokens_;     // [V, D]
  torch::Tensor embed_positions_;  // [training.seq_length, D], undefined with rotary positions
  Norm norm_;                      // [D]
  torch::Tensor lm_head_;          // [V, D], undefined when tied
  std::vector<Block> layers_;
};
TORCH_MODULE(Transformer);

}  // namespace switchyard
