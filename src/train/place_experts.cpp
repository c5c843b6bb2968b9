#include "train/place_experts.h"

#include <array>
#include <charconv>

#include "base/errors.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"
#include "optim/adamw.h"
#include "train/run_state.h"

namespace switchyard {

using torch::Tensor;

namespace {

constexpr std::string_view kLayers = "layers.";
constexpr std::string_view kRouter = ".moe.router.";
constexpr std::string_view kExperts = ".moe.experts.";

// What the rows of a tensor belong to.
enum class Rows { kExperts, kGroups, kNeither };

// `name` behind "layers.N.moe.router.". A tensor that is not listed could be left behind unnoticed.
Rows rows_of_router(std::string_view name, const std::string& whole) {
  constexpr std::array<std::string_view, 5> kByExpert = {"weight", "noise_weight", "bias", "threshold.sum",
                                                         "shift.sum"};
  constexpr std::array<std::string_view, 4> kByNeither = {"null_weight", "threshold", "threshold.weight",
                                                          "shift.weight"};
  if (std::find(kByExpert.begin(), kByExpert.end(), name) != kByExpert.end()) return Rows::kExperts;
  if (std::find(kByNeither.begin(), kByNeither.end(), name) != kByNeither.end()) return Rows::kNeither;
  if (name == "group_weight") return Rows::kGroups;
  throw CheckpointError("the tensor " + in_quotes(whole) +
                        " is of a router, but how its rows belong to experts is not known");
}

Rows rows_of(std::string_view name, const std::string& whole) {
  if (name.find(kExperts) != std::string_view::npos) return Rows::kExperts;
  const size_t router = name.find(kRouter);
  return router == std::string_view::npos ? Rows::kNeither
                                          : rows_of_router(name.substr(router + kRouter.size()), whole);
}

// The block of "layers.N.x"; -1 for a tensor of none.
int64_t layer_of(std::string_view name) {
  int64_t layer = -1;
  if (!name.starts_with(kLayers)) return layer;
  std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  return layer;
}

// The parameter that a moment is of.
std::string_view without_moment(std::string_view name) {
  for (const std::string& ending : moment_names("")) {
    if (name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  }
  return name;
}

// The order of the groups in an order of the experts that keeps them whole.
ExpertOrdering order_of_groups(const ExpertOrdering& experts, int64_t num_groups) {
  const int64_t size = static_cast<int64_t>(experts.size()) / num_groups;
  ExpertOrdering groups;
  for (size_t place = 0; place < experts.size(); place += static_cast<size_t>(size)) {
    groups.push_back(experts[place] / size);
  }
  return groups;
}

Tensor in_order(const Tensor& tensor, const ExpertOrdering& order, const std::string& name) {
  const auto rows = static_cast<int64_t>(order.size());
  if (tensor.dim() == 0 || tensor.size(0) != rows) {
    throw CheckpointError(c10::str("the tensor ", in_quotes(name), " is ", tensor.sizes(), ", but should have ", rows,
                                   " rows, one for each expert or group"));
  }
  return tensor.index_select(0, torch::tensor(order, torch::kInt64));
}

void permute_tensors(TensorMap& tensors, const Config& config, const Placements& placements) {
  for (auto& [name, tensor] : tensors) {
    const std::string_view parameter = without_moment(name);
    const auto placement = placements.find(layer_of(parameter));
    if (placement == placements.end()) continue;
    switch (rows_of(parameter, name)) {
      case Rows::kExperts:
        tensor = in_order(tensor, placement->second, name);
        break;
      case Rows::kGroups:
        tensor = in_order(tensor, order_of_groups(placement->second, config.moe->router.num_groups), name);
        break;
      case Rows::kNeither:
        break;
    }
  }
}

// trainer.json counts, for each MoE layer, the steps since each expert was used; empty before the first step.
void permute_idle_times(Json& trainer, const Config& config, const Placements& placements) {
  const auto found = trainer.find("steps_since_used");
  if (found == trainer.end() || !found->is_array() || found->empty()) return;
  size_t row = 0;
  for (int64_t layer = 0; layer < config.model.num_layers; ++layer) {
    if (!is_moe_layer(config, layer)) continue;
    const auto placement = placements.find(layer);
    if (placement != placements.end()) {
      const size_t experts = placement->second.size();
      if (row >= found->size() || !(*found)[row].is_array() || (*found)[row].size() != experts) {
        throw CheckpointError(formatted("trainer.json: steps_since_used has no row of %zu experts for layer %ld",
                                        experts, static_cast<long>(layer)));
      }
      const Json before = (*found)[row];
      for (size_t place = 0; place < experts; ++place) {
        (*found)[row][place] = before[static_cast<size_t>(placement->second[place])];
      }
    }
    ++row;
  }
}

}  // namespace

std::string why_not_placed(const Config& config) {
  if (!config.moe) return "the model has no experts";
  const auto router = [](const char* name, const char* why) { return std::string("a ") + name + " router " + why; };
  switch (config.moe->router.type) {
    case RouterType::kHash:
      return router("hash", "computes the experts of a token from its id: they cannot be moved");
    case RouterType::kRandom:
      return router("random", "computes the experts of a token from its place: they cannot be moved");
    case RouterType::kSoftMixture:
      return router("soft_mixture", "sends every token to every expert: no placement is better than another");
    case RouterType::kSoftMoe:
      return router("soft_moe", "sends mixtures of tokens to every expert: no placement is better than another");
    case RouterType::kTopK:
    case RouterType::kSwitch:
    case RouterType::kNoisyTopK:
    case RouterType::kHierarchical:
    case RouterType::kExpertChoice:
    case RouterType::kThreshold:
    case RouterType::kSinkhorn:
    case RouterType::kQuantile:
      return "";
  }
  return "";
}

Placements choose_placements(const RoutingTrace& trace, const Config& config, int64_t ranks) {
  const std::string why_not = why_not_placed(config);
  if (!why_not.empty()) throw ConfigError("experts cannot be placed: " + why_not);
  const MoeConfig& moe = *config.moe;
  if (trace.num_experts != moe.num_experts) {
    throw ConfigError(
        formatted("the trace is of a model with %ld experts, this one has %ld", trace.num_experts, moe.num_experts));
  }
  Placements placements;
  for (const auto& [layer, sets] : trace.layers) {
    if (layer >= config.model.num_layers || !is_moe_layer(config, layer)) {
      throw ConfigError(formatted("the trace has routes of layer %ld, which has no experts in this model", layer));
    }
    placements[layer] = place_experts(sets, moe.num_experts, ranks, moe.router.num_groups);
  }
  return placements;
}

PlacementChange change_of_layer(const RoutingTrace& trace, int64_t layer, const Placements& placements,
                                const Config& config, int64_t ranks) {
  const ExpertSets& sets = trace.layers.at(layer);
  PlacementChange change{.before = placement_cost(sets, experts_in_order(trace.num_experts), ranks),
                         .after = placement_cost(sets, placements.at(layer), ranks)};
  // Rows to experts and back, and their gradients.
  const double row = 4.0 * static_cast<double>(config.model.hidden_size * element_bytes(config.training.precision)) *
                     static_cast<double>(ranks - 1) / static_cast<double>(ranks);
  change.merged_before = row * change.before.ranks_per_token;
  change.merged_after = row * change.after.ranks_per_token;
  change.unmerged = row * change.before.choices_per_token;
  return change;
}

PlacementChange change_of_all(const RoutingTrace& trace, const Placements& placements, const Config& config,
                              int64_t ranks) {
  PlacementChange sum{.before = {.imbalance = 0}, .after = {.imbalance = 0}};
  const double share = 1.0 / static_cast<double>(trace.layers.size());
  const auto add = [&](PlacementCost& mean, const PlacementCost& cost) {
    mean.choices_per_token += share * cost.choices_per_token;
    mean.ranks_per_token += share * cost.ranks_per_token;
    mean.imbalance += share * cost.imbalance;
  };
  for (const auto& [layer, sets] : trace.layers) {
    const PlacementChange change = change_of_layer(trace, layer, placements, config, ranks);
    add(sum.before, change.before);
    add(sum.after, change.after);
    sum.merged_before += change.merged_before;
    sum.merged_after += change.merged_after;
    sum.unmerged += change.unmerged;
  }
  return sum;
}

void permute_experts(Checkpoint& checkpoint, const Config& config, const Placements& placements) {
  const torch::NoGradGuard no_grad;
  permute_tensors(checkpoint.model, config, placements);
  permute_tensors(checkpoint.optimizer, config, placements);
  permute_idle_times(checkpoint.trainer, config, placements);
}

PlacedCheckpoint place_checkpoint(const std::filesystem::path& path, const std::filesystem::path& trace_file,
                                  int64_t ranks, const std::filesystem::path& out) {
  if (std::filesystem::exists(std::filesystem::symlink_status(out))) {
    throw CheckpointError(out.string() + " exists already; place writes a new folder");
  }
  const auto folder = resolve_checkpoint(path);
  Checkpoint checkpoint = load_checkpoint(folder);
  const Config config = checkpoint_config(checkpoint, folder, {});
  const RoutingTrace trace = read_routing_trace(trace_file);
  const Placements placements = choose_placements(trace, config, ranks);
  permute_experts(checkpoint, config, placements);
  save_checkpoint_as(out, checkpoint);
  PlacedCheckpoint placed{.trace_tokens = trace.tokens, .layers = {}, .all = {}};
  for (const auto& [layer, order] : placements) {
    placed.layers[layer] = change_of_layer(trace, layer, placements, config, ranks);
  }
  placed.all = change_of_all(trace, placements, config, ranks);
  return placed;
}

}  // namespace switchyard
