#include "metrics/placement.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "metrics/expert_placement.h"

namespace switchyard {
namespace {

std::vector<int64_t> heaviest_first(const std::vector<double>& loads) {
  std::vector<int64_t> order(loads.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return loads[static_cast<size_t>(a)] > loads[static_cast<size_t>(b)]; });
  return order;
}

// The fewest devices for one token: those of its experts that stand on one device only, and, where an expert with
// replicas has none of its devices among them, one more.
int64_t devices_of_token(const TokenChoices& step, size_t token, const Placement& placement) {
  std::set<int> devices;
  for (const bool replicated : {false, true}) {
    for (int64_t i = step.begin[token]; i < step.begin[token + 1]; ++i) {
      const std::vector<int>& of_expert = placement[static_cast<size_t>(step.choices[static_cast<size_t>(i)])];
      if ((of_expert.size() > 1) != replicated) continue;
      const bool there =
          std::any_of(of_expert.begin(), of_expert.end(), [&](int one) { return devices.contains(one); });
      if (!there) devices.insert(of_expert.front());
    }
  }
  return static_cast<int64_t>(devices.size());
}

// Adds `amount` to the lightest of `devices`, so that the heaviest of them stays as light as it can.
void add_to_lightest(std::vector<double>& loads, std::vector<int> devices, double amount) {
  const auto load = [&](int device) -> double& { return loads[static_cast<size_t>(device)]; };
  std::sort(devices.begin(), devices.end(), [&](int a, int b) { return load(a) < load(b); });
  // The first `filled` devices come to one level, which lies below the next one's load.
  double sum = amount;
  size_t filled = 0;
  while (filled < devices.size() && (filled == 0 || load(devices[filled]) * static_cast<double>(filled) < sum)) {
    sum += load(devices[filled++]);
  }
  for (size_t i = 0; i < filled; ++i) load(devices[i]) = sum / static_cast<double>(filled);
}

double highest_over_mean(const std::vector<double>& loads) {
  const double total = std::accumulate(loads.begin(), loads.end(), 0.0);
  return total > 0 ? *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / total : 1.0;
}

}  // namespace

std::vector<double> loads_of(const std::vector<TokenChoices>& steps, int64_t num_experts) {
  std::vector<double> loads(static_cast<size_t>(num_experts), 0.0);
  for (const TokenChoices& step : steps) {
    for (const int32_t expert : step.choices) ++loads[static_cast<size_t>(expert)];
  }
  return loads;
}

CountTable pairs_of(const std::vector<TokenChoices>& steps, int64_t num_experts) {
  const auto size = static_cast<size_t>(num_experts);
  CountTable pairs(size, std::vector<double>(size, 0.0));
  for (const TokenChoices& step : steps) {
    for (size_t token = 0; token + 1 < step.begin.size(); ++token) {
      for (int64_t a = step.begin[token]; a < step.begin[token + 1]; ++a) {
        for (int64_t b = step.begin[token]; b < step.begin[token + 1]; ++b) {
          ++pairs[static_cast<size_t>(step.choices[static_cast<size_t>(a)])]
                 [static_cast<size_t>(step.choices[static_cast<size_t>(b)])];
        }
      }
    }
  }
  return pairs;
}

Placement place_by_index(int64_t num_experts, int num_devices) {
  Placement placement;
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    placement.push_back({static_cast<int>(expert * num_devices / num_experts)});
  }
  return placement;
}

Placement place_by_load(const std::vector<double>& loads, int num_devices) {
  std::vector<double> device_loads(static_cast<size_t>(num_devices), 0.0);
  const size_t room = (loads.size() + device_loads.size() - 1) / device_loads.size();
  std::vector<size_t> held(device_loads.size(), 0);
  Placement placement(loads.size());
  for (const int64_t expert : heaviest_first(loads)) {
    size_t lightest = device_loads.size();
    for (size_t device = 0; device < device_loads.size(); ++device) {
      if (held[device] == room) continue;
      if (lightest == device_loads.size() || device_loads[device] < device_loads[lightest]) lightest = device;
    }
    placement[static_cast<size_t>(expert)] = {static_cast<int>(lightest)};
    device_loads[lightest] += loads[static_cast<size_t>(expert)];
    ++held[lightest];
  }
  return placement;
}

Placement place_by_pairs(const CountTable& pairs, int num_devices) {
  Placement placement;
  for (const size_t device : co_locate(pairs, static_cast<size_t>(num_devices))) {
    placement.push_back({static_cast<int>(device)});
  }
  return placement;
}

Placement replicate_hottest(Placement placement, const std::vector<double>& loads, int64_t copies, int num_devices) {
  const std::vector<int64_t> order = heaviest_first(loads);
  for (size_t i = 0; i < std::min(order.size(), static_cast<size_t>(copies)); ++i) {
    std::vector<int>& devices = placement[static_cast<size_t>(order[i])];
    devices.resize(static_cast<size_t>(num_devices));
    std::iota(devices.begin(), devices.end(), 0);
  }
  return placement;
}

PlacementEffect placement_effect(const std::vector<TokenChoices>& steps, const Placement& placement, int num_devices) {
  PlacementEffect effect;
  double tokens = 0;
  for (const TokenChoices& step : steps) {
    std::vector<double> loads(static_cast<size_t>(num_devices), 0.0);
    const std::vector<double> of_expert = loads_of({step}, static_cast<int64_t>(placement.size()));
    for (const bool replicated : {false, true}) {
      for (size_t expert = 0; expert < placement.size(); ++expert) {
        const bool here = (placement[expert].size() > 1) == replicated && of_expert[expert] > 0;
        if (here) add_to_lightest(loads, placement[expert], of_expert[expert]);
      }
    }
    effect.imbalance += highest_over_mean(loads) / static_cast<double>(steps.size());
    for (size_t token = 0; token + 1 < step.begin.size(); ++token) {
      effect.devices_per_token += static_cast<double>(devices_of_token(step, token, placement));
      ++tokens;
    }
  }
  if (tokens > 0) effect.devices_per_token /= tokens;
  return effect;
}

int64_t experts_touched(const TokenChoices& step, int64_t num_experts) {
  const std::vector<double> loads = loads_of({step}, num_experts);
  return std::count_if(loads.begin(), loads.end(), [](double load) { return load > 0; });
}

double load_imbalance(const TokenChoices& step, int64_t num_experts) {
  return highest_over_mean(loads_of({step}, num_experts));
}

double touched_by_chance(int64_t num_experts, double top_k, int64_t batch) {
  const auto experts = static_cast<double>(num_experts);
  return experts * (1 - std::pow(1 - top_k / experts, static_cast<double>(batch)));
}

}  // namespace switchyard
