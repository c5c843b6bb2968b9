// The parts of one transformer block, for accounting.cpp.
#pragma once

#include <vector>

#include "model/accounting.h"

namespace switchyard {

inline double as_double(int64_t value) { return static_cast<double>(value); }

// Parameters of one norm over `width` values: a weight, and with layer_norm a bias.
int64_t norm_parameters(const ModelConfig& model, int64_t width);

// What layer `layer` holds and computes, per token of the sequence: attention, then the feed-forward or the router,
// the experts and what stands beside them, then the router of a mixture of depths.
std::vector<ComponentCost> block_costs(const Config& config, int64_t layer);

// Parameters of all routed experts of one layer.
int64_t expert_parameters(const Config& config);

// Rows that the tokens of one micro-batch make in the experts of layer `layer`, every choice being as likely as another
// (of the null experts, too).
double rows_to_experts(const Config& config, int64_t layer);

// Rows of a router's matrix that scores experts; 0 where nothing is learned. A soft_moe router has one per slot.
int64_t router_rows(const Config& config);

// Output projections of a token: one, or with moe.router.error competitive one for each expert of the last layer.
int64_t predictions_per_token(const Config& config);

// Share of the tokens that pass through layer `layer`: 1 unless the mixture of depths is about it.
double passing_share(const Config& config, int64_t layer);

}  // namespace switchyard
