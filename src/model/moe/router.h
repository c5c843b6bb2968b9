// Routers decide which experts see a token. One file each in routers/; all return the same RouterOutput, so that
// dispatch, losses and metrics never know which scheme made it.
// Legend: T tokens, D hidden, E experts, K experts per token.
#pragma once

#include <memory>
#include <optional>

#include "config/config.h"
#include "ops/torch.h"

namespace switchyard {

// What a router may look at.
struct RouterInput {
  torch::Tensor x;            // [T, D] of any floating type; tokens of one sequence are neighbours
  torch::Tensor token_ids{};  // [T] int64, ids in the vocabulary
  torch::Tensor positions{};  // [T] int64, place in the sequence, counted from 0
  int64_t num_sequences = 1;  // B, of equal length
  bool incremental = false;   // the tokens continue sequences whose earlier ones are not here (generation)
  torch::Tensor active{};     // [T] bool, tokens that count (Mixture of Depths in evaluation); undefined: all
};

// Experts whose inputs are mixtures of tokens (Soft MoE). P slots of an expert, expert by expert.
struct SlotWeights {
  torch::Tensor dispatch;  // [B, S, E * P] sums to 1 over S: slot = sum over tokens
  torch::Tensor combine;   // [B, S, E * P] sums to 1 over slots: token = sum over slots
};

struct RouterOutput {
  torch::Tensor logits;         // [T, E] float32 (float64 in float64 models), differentiable
  torch::Tensor probabilities;  // [T, E] router probability of every expert, rows sum to 1, differentiable
  torch::Tensor expert_ids;     // [T, K] int64 in [0, E), best first
  torch::Tensor weights;        // [T, K] what an expert's output is multiplied with, differentiable
  torch::Tensor chosen;         // [T, K] bool, false where the entry is no assignment; undefined: all are
  torch::Tensor kept;           // [T, K] bool, what of it capacity left; undefined: all
  torch::Tensor counts;  // [E] int64, how often each expert is in expert_ids, where the router counted; or undefined
  int64_t layer = 0;     // which block of the model this is

  // What some schemes have besides; undefined elsewhere. Losses and the state after a step are functions of them.
  torch::Tensor group_probabilities;  // [T, G] router probability of every group, differentiable
  torch::Tensor group_ids;            // [T, KG] int64, the chosen groups
  torch::Tensor smooth_load;          // [E] differentiable estimate of the assignments per expert
  torch::Tensor smooth_experts;       // [T] differentiable estimate of the number of experts of a token
  torch::Tensor observed;             // [n] what Router::after_step() gets the mean of, over the step's micro-batches
  std::optional<SlotWeights> slots;   // instead of a dispatch of tokens; expert_ids then only describe
  torch::Tensor alone;                // [E, T, D] the layer's output if each expert in turn had all the weight; of the
                                      // last layer where its experts compete (moe.router.error)
  torch::Tensor output_norms;         // [E, 2] float64, of the rows that an expert computed: sum of the outputs' L2
                                      // norms, number; only where the model measures

  // [T, K] bool, the assignments that experts compute; undefined: all.
  const torch::Tensor& dispatched() const { return kept.defined() ? kept : chosen; }
};

// Assignments per expert before drops: [E] int64, on the device.
torch::Tensor tokens_per_expert(const RouterOutput& output);
// The same for each of `num_sequences` equal runs of tokens: [num_sequences, E] int64.
torch::Tensor tokens_per_expert_and_sequence(const RouterOutput& output, int64_t num_sequences);

class Router : public torch::nn::Module {
 public:
  // Routers compute in float32 (float64 in float64 models). Noise and jitter are drawn from ATen's default generator,
  // in training mode only. Changes no state: a forward pass may run twice. Collectives: none.
  virtual RouterOutput forward(const RouterInput& input) = 0;

  // What a scheme learns without gradients, once after every update: tokens_per_expert [E], assignments of the whole
  // step over all ranks (float64); observed as in RouterOutput, undefined where that is. State lives in registered
  // buffers, which checkpoints hold. Must not synchronise with the host. Collectives: none.
  virtual void after_step(const torch::Tensor& tokens_per_expert, const torch::Tensor& observed);
};

// The scheme that config.router names, for block `layer` of the model. config must be resolved.
std::shared_ptr<Router> make_router(const MoeConfig& config, int64_t hidden_size, int64_t layer);

// x W^T in weight's type (routers compute in float32). x [T, D], weight [E, D] -> [T, E].
torch::Tensor router_logits(const torch::Tensor& x, const torch::Tensor& weight);

// Which choices fit when every expert takes ceil(capacity_factor * K * T / E) of them (GShard, algorithm 1).
//   position:    first choices of all tokens before second choices, earlier tokens first (Switch, GShard)
//   probability: the assignments with the largest weights stay, whatever token or choice they are of (batch
//                prioritised routing, Riquelme et al. 2021, ranks whole tokens, and serves first choices first)
// Entries that are not `chosen` ([T, K] bool or undefined) take no place, and `choices_of_token` is K of the formula.
// T counts the tokens that are `active` ([T] bool; undefined: all). Returns [T, K] bool.
torch::Tensor keep_within_capacity(const RouterOutput& routing, int64_t num_experts, double choices_of_token,
                                   double capacity_factor, DropPolicy policy, const torch::Tensor& active = {});
// The number of places that capacity_factor gives one expert.
int64_t expert_capacity(int64_t num_tokens, double choices_of_token, int64_t num_experts, double capacity_factor);
// What the mean number of experts of a token should be: among top_k choices null experts get their even share.
double choices_of_a_token(const MoeConfig& config);

}  // namespace switchyard
