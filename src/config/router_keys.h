// Which keys of moe.router belong to which scheme.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config/config.h"

namespace switchyard {

// Every scheme with its word in moe.router.type.
const std::vector<std::pair<std::string, RouterType>>& router_types();
const std::string& router_name(RouterType type);

// The keys of moe.router that have an effect with a scheme, besides 'type'.
std::vector<std::string> router_keys(RouterType type);

// Whether the balancing loss is of the load of the whole step's batch, and can change the choices that make this load:
// not where a hash or chance makes them, nor where all experts work, unless first choices alone count.
bool needs_global_load(const Config& config);

// Why a model of this configuration can't but look at later tokens, so that it can't generate; "" where it can.
std::string why_not_causal(const Config& config);
// Why its losses in evaluation depend on later tokens; "" where they don't. Generation is always dropless.
std::string why_evaluation_looks_ahead(const Config& config);

}  // namespace switchyard
