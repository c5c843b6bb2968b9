// Small models of random configurations, for tests of what must hold for all of them.
#pragma once

#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/errors.h"
#include "tests/support/configs.h"

namespace switchyard::test {

// Keys, one after the other, that make the routers: model i has the i-th of them, counted round. The first has none.
inline const std::vector<std::vector<std::string>>& router_schemes() {
  static const std::vector<std::vector<std::string>> schemes = {
      {},
      {"moe.router.type=top_k"},
      {"moe.router.type=top_k", "moe.router.softmax=after"},
      {"moe.router.type=top_k", "moe.router.score=sigmoid", "moe.router.expert_bias=true", "moe.router.bias_rate=0.01"},
      {"moe.router.type=top_k", "moe.num_experts=6", "moe.router.num_groups=3", "moe.router.top_groups=2"},
      {"moe.router.type=top_k", "moe.router.null_experts=2"},
      {"moe.router.type=top_k", "moe.router.second_expert=random"},
      {"moe.router.type=switch", "moe.top_k=1"},
      {"moe.router.type=noisy_top_k"},
      {"moe.router.type=hierarchical", "moe.num_experts=6", "moe.router.num_groups=3", "moe.router.top_groups=2"},
      {"moe.router.type=soft_mixture", "moe.top_k=4"},
      {"moe.router.type=soft_mixture", "moe.top_k=4", "moe.router.error=competitive"},
      {"moe.router.type=expert_choice"},
      {"moe.router.type=expert_choice", "moe.router.causal_form=none"},
      {"moe.router.type=threshold"},
      {"moe.router.type=hash"},
      {"moe.router.type=random"},
      {"moe.router.type=sinkhorn"},
      {"moe.router.type=quantile"},
      {"moe.router.type=soft_moe"},
  };
  return schemes;
}

struct Offer {
  std::string key;
  std::vector<std::string> values;
};

// What a model may have besides, in an order in which a key does not rule out many of the later ones.
inline const std::vector<Offer>& offered_keys() {
  static const std::vector<Offer> offers = {
      {"model.latent_attention",
       {"{kv_lora_rank: 5, qk_nope_head_dim: 6, qk_rope_head_dim: 4}",
        "{kv_lora_rank: 8, q_lora_rank: 7, qk_nope_head_dim: 3, qk_rope_head_dim: 2, v_head_dim: 9}"}},
      {"model.head_dim", {"2", "6", "16", "34"}},
      {"model.hidden_size", {"4", "12", "17", "33", "64"}},
      {"model.num_layers", {"1", "3"}},
      {"model.num_attention_heads", {"1", "3", "4"}},
      {"model.num_key_value_heads", {"1", "2"}},
      {"model.intermediate_size", {"1", "7", "16", "33"}},
      {"model.tie_word_embeddings", {"false"}},
      {"model.activation", {"geglu", "gelu", "relu"}},
      {"model.normalization", {"layer_norm"}},
      {"model.position_embedding", {"learned"}},
      {"model.bias", {"true"}},
      {"model.post_norm", {"true"}},
      {"model.qk_norm", {"head", "full"}},
      {"model.sliding_window", {"1", "2", "7"}},
      {"model.sliding_window_layers", {"2"}},
      {"model.attention_softcap", {"0.5", "5"}},
      {"model.logit_softcap", {"1", "30"}},
      {"model.embedding_scale", {"3.5"}},
      {"model.logit_scale", {"0.25"}},
      {"model.dropout", {"0.1"}},
      {"training.seq_length", {"1", "2", "17", "33", "50"}},
      {"training.micro_batch_size", {"4"}},
      {"training.precision", {"fp32", "bf16"}},
      {"optimizer.grad_clip", {"0", "0.1"}},
      {"mixture_of_depths", {"{capacity_factor: 0.5, layer_freq: 1}", "{capacity_factor: 0.2, layer_freq: 2}"}},
      {"moe.top_k", {"1", "3", "4"}},
      {"moe.num_experts", {"1", "2", "3", "5", "6", "8", "19"}},
      {"moe.intermediate_size", {"1", "3", "8", "16", "33"}},
      {"moe.num_shared_experts", {"1", "2"}},
      {"moe.dense_residual", {"true"}},
      {"moe.layer_freq", {"2"}},
      {"moe.first_k_dense", {"1"}},
      {"moe.aux_loss_coeff", {"0", "0.01"}},
      {"moe.z_loss_coeff", {"0"}},
      {"moe.aux_loss_scope", {"sequence", "micro_batch"}},
      {"moe.aux_loss_layers", {"mean"}},
      {"moe.aux_loss_choices", {"first"}},
      {"moe.aux_loss_probabilities", {"chosen"}},
      {"moe.capacity_factor", {"0.5", "1", "1.25"}},
      {"moe.eval_capacity_factor", {"0.75"}},
      {"moe.drop_policy", {"position"}},
      {"moe.router.init_scale", {"0.1", "5"}},
      {"moe.router.normalize", {"false"}},
      {"moe.router.scale", {"2.5"}},
      {"moe.router.jitter", {"0.05"}},
      {"moe.router.group_score", {"top_two_sum"}},
      {"moe.router.choice_scope", {"batch"}},
      {"moe.router.momentum", {"0.5"}},
      {"moe.router.rule", {"score"}},
      {"moe.router.max_experts", {"3"}},
      {"moe.router.initial_threshold", {"0.1", "0.9"}},
      {"moe.router.threshold_rate", {"0.02"}},
      {"moe.router.budget_coeff", {"0", "0.5"}},
      {"moe.router.sinkhorn_iterations", {"2"}},
      {"moe.router.slots_per_expert", {"1", "3"}},
  };
  return offers;
}

// The keys of model `number`, always the same ones. Every key of the offers is drawn or not, and stays where the rules
// of the configuration accept it: so they alone say which models there are. `kept` gets the keys that stayed.
inline std::vector<std::string> random_model(uint64_t number, std::set<std::string>* kept = nullptr) {
  std::mt19937_64 word(number);
  std::vector<std::string> keys = {
      "model.vocab_size=61",  // more than a sequence has tokens
      "training.seq_length=9",     "training.micro_batch_size=2", "training.global_batch_size=4",
      "training.precision=fp64",   "training.num_threads=1",      "optimizer.eps=1e-4",
      "training.spike.action=off", "moe.num_experts=4",           "moe.top_k=2",
      "moe.intermediate_size=5",   "moe.aux_loss_coeff=0.3",      "moe.z_loss_coeff=0.05",
  };
  const auto& scheme = router_schemes()[number % router_schemes().size()];
  const bool dense = scheme.empty();
  if (dense) std::erase_if(keys, [](const std::string& key) { return key.starts_with("moe."); });
  keys.insert(keys.end(), scheme.begin(), scheme.end());
  tiny_config(keys);  // throws if the scheme itself is refused
  for (const auto& [key, values] : offered_keys()) {
    const bool taken = word() % (key.starts_with("moe.router.") ? 2 : 4) == 0;
    const std::string value = values[word() % values.size()];
    if (!taken || (dense && key.starts_with("moe."))) continue;
    keys.push_back(key + "=" + value);
    try {
      tiny_config(keys);
      if (kept != nullptr) kept->insert(key);
    } catch (const ConfigError&) {
      keys.pop_back();
    }
  }
  return keys;
}

}  // namespace switchyard::test
