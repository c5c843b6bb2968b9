#include "train/routing_probe.h"

#include <algorithm>
#include <numeric>

#include "train/routes.h"

namespace switchyard {

using torch::Tensor;

namespace {

constexpr size_t kPairsLogged = 128;  // all pairs of 16 experts

CountTable table_of(const Tensor& counts) {
  const Tensor host = counts.cpu().to(torch::kFloat64).contiguous();
  CountTable table;
  for (int64_t row = 0; row < host.size(0); ++row) {
    const double* values = host.const_data_ptr<double>() + row * host.size(1);
    table.emplace_back(values, values + host.size(1));
  }
  return table;
}

}  // namespace

void RoutingProbe::begin() { layers_.clear(); }

void RoutingProbe::add(int64_t domain, const ModelOutput& output, bool counted) {
  const torch::NoGradGuard no_grad;
  for (const Routes& routes : routes_of(output)) {
    Layer& layer = layers_[routes.layer];
    const Tensor chosen = multi_hot(routes);
    if (!layer.domain_counts.defined()) {
      const auto counts = routes.expert_ids.options();
      layer.domain_counts = torch::zeros({num_domains_, routes.num_experts}, counts);
      layer.pair_counts = torch::zeros({routes.num_experts, routes.num_experts}, counts);
    }
    if (!counted) continue;
    layer.domain_counts[domain] += chosen.sum(0).to(torch::kInt64);
    layer.pair_counts += torch::mm(chosen.t(), chosen).to(torch::kInt64);
    std::vector<Tensor>& sets = layer.sets[domain];
    const int64_t seen = std::accumulate(sets.begin(), sets.end(), int64_t{0},
                                         [](int64_t sum, const Tensor& part) { return sum + part.size(0); });
    const int64_t taken = std::min(max_compared_ - seen, chosen.size(0));
    if (taken > 0) sets.push_back(set_hashes(routes).narrow(0, 0, taken));
  }
}

std::vector<ProbedRouting> RoutingProbe::finish(Group& ranks) {
  std::vector<ProbedRouting> found;
  for (auto& [index, layer] : layers_) {
    ranks.all_reduce(layer.domain_counts).wait();
    ranks.all_reduce(layer.pair_counts).wait();
    ProbedRouting probed{
        .layer = index, .domain_counts = table_of(layer.domain_counts), .pair_counts = table_of(layer.pair_counts)};
    // A rank may have had no batch.
    std::vector<Tensor> parts = {torch::empty({0}, layer.pair_counts.options())};
    for (auto& [domain, sets] : layer.sets) parts.insert(parts.end(), sets.begin(), sets.end());
    const Tensor now = torch::cat(parts);
    Tensor& before = last_[index];
    const bool comparable = before.defined() && before.sizes() == now.sizes();
    const Tensor drift = torch::zeros({2}, now.options());
    if (comparable) drift.copy_(torch::stack({torch::full({}, now.size(0), now.options()), (now != before).sum()}));
    ranks.all_reduce(drift).wait();
    probed.compared = drift[0].item<int64_t>();
    probed.changed = drift[1].item<int64_t>();
    before = now;
    found.push_back(std::move(probed));
  }
  layers_.clear();
  return found;
}

std::vector<std::vector<int64_t>> frequent_pairs(const CountTable& pair_counts, size_t limit) {
  std::vector<std::vector<int64_t>> pairs;
  for (size_t a = 0; a < pair_counts.size(); ++a) {
    for (size_t b = a + 1; b < pair_counts.size(); ++b) {
      const auto count = static_cast<int64_t>(pair_counts[a][b]);
      if (count > 0) pairs.push_back({static_cast<int64_t>(a), static_cast<int64_t>(b), count});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(), [](const auto& one, const auto& other) { return one[2] > other[2]; });
  if (pairs.size() > limit) pairs.resize(limit);
  return pairs;
}

OrderedJson probe_event(int64_t step, const ProbedRouting& probed, const std::vector<std::string>& domains) {
  OrderedJson load = OrderedJson::object();
  for (size_t domain = 0; domain < domains.size(); ++domain) {
    const std::vector<double>& counts = probed.domain_counts.at(domain);
    const double total = std::max(1.0, std::accumulate(counts.begin(), counts.end(), 0.0));
    std::vector<double> shares;
    for (const double count : counts) shares.push_back(count / total);
    load[domains[domain]] = shares;
  }
  OrderedJson event = {{"event", "routing_eval"},
                       {"step", step},
                       {"layer", probed.layer},
                       {"drift", nullptr},
                       {"domain_information", mutual_information(probed.domain_counts)},
                       {"domain_share", explained_share(probed.domain_counts)},
                       {"domain_load", load},
                       {"pairs", frequent_pairs(probed.pair_counts, kPairsLogged)}};
  if (probed.compared > 0) event["drift"] = double(probed.changed) / double(probed.compared);
  return event;
}

}  // namespace switchyard
