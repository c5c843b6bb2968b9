#include "train/serving.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "base/errors.h"
#include "base/logging.h"
#include "base/text.h"
#include "config/router_keys.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kMixed = "mixed";
constexpr int64_t kTokensOfPass = 16;  // that a pass costs as much as, however few it has; roughly

// Texts of prompt + steps tokens.
using Texts = std::vector<std::vector<int32_t>>;

Texts texts_of_domain(const Dataset& dataset, int64_t domain, int64_t length, int64_t wanted) {
  Texts texts;
  const Domain& source = dataset.domains[static_cast<size_t>(domain)];
  // A window is one token longer than its sequence, and its last token is not needed here.
  if (source.validation.num_tokens() < length + 1) return texts;
  for (const TokenBatch& batch : validation_batches(dataset, domain, wanted, 1, length)) {
    for (int64_t sequence = 0; sequence < batch.num_sequences; ++sequence) {
      const auto first = batch.tokens.begin() + sequence * (length + 1);
      texts.emplace_back(first, first + length);
    }
  }
  return texts;
}

// The domains in turn: the first text of each, then the second of each, and so on.
Texts mixed_texts(const std::map<std::string, Texts>& by_domain, size_t wanted) {
  Texts mixed;
  for (size_t i = 0; mixed.size() < wanted; ++i) {
    const size_t before = mixed.size();
    for (const auto& [name, texts] : by_domain) {
      if (i < texts.size() && mixed.size() < wanted) mixed.push_back(texts[i]);
    }
    if (mixed.size() == before) break;
  }
  return mixed;
}

std::map<std::string, Texts> traffic_of(const Dataset& dataset, const ServingOptions& options) {
  const int64_t largest = *std::max_element(options.batch_sizes.begin(), options.batch_sizes.end());
  std::map<std::string, Texts> traffic;
  for (size_t d = 0; d < dataset.domains.size(); ++d) {
    traffic[dataset.domains[d].name] =
        texts_of_domain(dataset, static_cast<int64_t>(d), options.prompt + options.steps, largest);
  }
  traffic[kMixed] = mixed_texts(traffic, static_cast<size_t>(largest));
  return traffic;
}

// The sizes of batches for which there are enough texts.
std::vector<int64_t> batches_of(const Texts& texts, const ServingOptions& options) {
  std::vector<int64_t> sizes;
  for (const int64_t size : options.batch_sizes) {
    if (static_cast<size_t>(size) <= texts.size()) sizes.push_back(size);
  }
  return sizes;
}

// What all decoding costs, for the time that is left: tokens, and kTokensOfPass for each forward pass.
int64_t cost_of(const std::map<std::string, Texts>& traffic, const ServingOptions& options) {
  int64_t cost = 0;
  for (const auto& [name, texts] : traffic) {
    for (const int64_t size : batches_of(texts, options)) {
      cost += size * (options.prompt + options.steps) + kTokensOfPass * (1 + options.steps);
    }
  }
  return cost;
}

struct Decoded {
  std::vector<double> seconds;                           // of every step
  std::map<int64_t, std::vector<TokenChoices>> routing;  // by MoE layer, step by step
};

// The first `batch` texts, decoded together. `count` is told the tokens of each forward pass.
Decoded decode(Transformer& model, const Texts& texts, int64_t batch, const ServingOptions& options,
               const std::function<void(int64_t)>& count) {
  const torch::NoGradGuard no_grad;
  const torch::Device device = model->output_weight().device();
  const int64_t length = options.prompt + options.steps;
  std::vector<int64_t> flat;
  for (int64_t i = 0; i < batch; ++i) {
    const auto& text = texts[static_cast<size_t>(i)];
    flat.insert(flat.end(), text.begin(), text.end());
  }
  const torch::Tensor tokens = torch::tensor(flat, torch::kInt64).view({batch, length}).to(device);
  KvCache cache = model->make_cache(batch, length);
  model->forward(tokens.narrow(1, 0, options.prompt), &cache);
  count(batch * options.prompt);
  Decoded decoded;
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto begin = Clock::now();
    const ModelOutput output = model->forward(tokens.narrow(1, options.prompt + step, 1), &cache);
    // What a server reads of each step: the most likely tokens. This also waits for the device.
    const torch::Tensor next = model->logits(output.hidden).argmax(1).cpu();
    decoded.seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    for (const Routes& routes : routes_of(output)) append_choices(routes, decoded.routing[routes.layer].emplace_back());
    count(batch);
  }
  return decoded;
}

// By nearest rank.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::max<size_t>(1, rank) - 1];
}

OrderedJson traffic_json(const std::string& traffic, int64_t batch, const Decoded& decoded, const WeightBytes& bytes,
                         const MoeConfig& moe) {
  double touched = 0, imbalance = 0, count = 0;
  for (const auto& [layer, steps] : decoded.routing) {
    for (const TokenChoices& step : steps) {
      touched += static_cast<double>(experts_touched(step, moe.num_experts));
      imbalance += load_imbalance(step, moe.num_experts);
      ++count;
    }
  }
  const auto steps = static_cast<double>(decoded.seconds.size());
  const double read = static_cast<double>(bytes.shared) + touched / steps * static_cast<double>(bytes.expert);
  const double total = std::accumulate(decoded.seconds.begin(), decoded.seconds.end(), 0.0);
  return {{"traffic", traffic},
          {"batch_size", batch},
          {"steps", decoded.seconds.size()},
          {"experts_touched", touched / count},
          {"experts_touched_by_chance", touched_by_chance(moe.num_experts, double(active_experts(moe)), batch)},
          {"load_imbalance", imbalance / count},
          {"bytes_per_token", read / static_cast<double>(batch) + static_cast<double>(bytes.embedding_row)},
          {"tokens_per_second", static_cast<double>(batch) * steps / total},
          {"latency_median", quantile(decoded.seconds, 0.5)},
          {"latency_p99", quantile(decoded.seconds, 0.99)}};
}

std::vector<TokenChoices> half(const std::vector<TokenChoices>& steps, bool second) {
  const auto middle = steps.begin() + static_cast<int64_t>(steps.size() / 2);
  return second ? std::vector<TokenChoices>(middle, steps.end()) : std::vector<TokenChoices>(steps.begin(), middle);
}

std::map<std::string, Placement> placements_of(const std::vector<TokenChoices>& seen, int64_t num_experts,
                                               int devices) {
  const std::vector<double> loads = loads_of(seen, num_experts);
  const Placement by_index = place_by_index(num_experts, devices);
  std::vector<double> others = loads;
  *std::max_element(others.begin(), others.end()) = 0;
  return {{"by index", by_index},
          {"by load", place_by_load(loads, devices)},
          {"co-located pairs", place_by_pairs(pairs_of(seen, num_experts), devices)},
          {"by index, hottest on all", replicate_hottest(by_index, loads, 1, devices)},
          {"by load, hottest on all", replicate_hottest(place_by_load(others, devices), loads, 1, devices)}};
}

OrderedJson placement_json(const std::map<std::string, Decoded>& by_traffic, int64_t num_experts, int devices) {
  struct Sum {
    double imbalance = 0, devices_per_token = 0;
  };
  std::map<std::pair<std::string, std::string>, Sum> sums;
  const auto& mixed = by_traffic.at(kMixed).routing;
  for (const auto& [layer, seen] : mixed) {
    for (const auto& [name, placement] : placements_of(half(seen, false), num_experts, devices)) {
      for (const auto& [traffic, decoded] : by_traffic) {
        const PlacementEffect effect = placement_effect(half(decoded.routing.at(layer), true), placement, devices);
        Sum& sum = sums[{traffic, name}];
        sum.imbalance += effect.imbalance / static_cast<double>(mixed.size());
        sum.devices_per_token += effect.devices_per_token / static_cast<double>(mixed.size());
      }
    }
  }
  OrderedJson list = OrderedJson::array();
  for (const auto& [key, sum] : sums) {
    list.push_back({{"traffic", key.first},
                    {"placement", key.second},
                    {"imbalance", sum.imbalance},
                    {"devices_per_token", sum.devices_per_token}});
  }
  return list;
}

void check_model(const LoadedModel& loaded, const std::string& path, const ServingOptions& options) {
  require_experts(loaded, path);
  const std::string reason = why_not_causal(loaded.config);
  if (!reason.empty()) throw ConfigError(path + " can't be served token by token: " + reason);
  const int64_t length = options.prompt + options.steps;
  if (loaded.config.model.position_embedding == PositionEmbedding::kLearned &&
      length > loaded.config.training.seq_length) {
    throw ConfigError(formatted("the model has learned positions for %ld tokens; --prompt and --steps make it %ld",
                                loaded.config.training.seq_length, length));
  }
  if (loaded.config.mixture_of_depths && options.batch_sizes != std::vector<int64_t>{1}) {
    throw ConfigError("mixture_of_depths decodes one text at a time: --batch-sizes 1");
  }
}

}  // namespace

WeightBytes weight_bytes_of(const Transformer& model) {
  WeightBytes bytes;
  for (const auto& parameter : model->named_parameters()) {
    const torch::Tensor& weight = parameter.value();
    const auto size = static_cast<int64_t>(weight.nbytes());
    const std::string& name = parameter.key();
    if (name.find(".moe.experts.") != std::string::npos) {
      // The layers are alike: one of them tells.
      if (name.starts_with("layers.")) bytes.expert += size / weight.size(0);
    } else if (name == "embed_tokens" && !model->config().model.tie_word_embeddings) {
      bytes.embedding_row += size / weight.size(0);
    } else if (name == "embed_positions") {
      bytes.embedding_row += size / weight.size(0);
    } else {
      bytes.shared += size;
    }
  }
  bytes.expert /= std::max<int64_t>(1, num_moe_layers(model->config()));
  return bytes;
}

OrderedJson study_serving(LoadedModel& loaded, const Dataset& dataset, const std::string& path,
                          const ServingOptions& options) {
  check_model(loaded, path, options);
  loaded.model->cast_matrices();
  const MoeConfig& moe = *loaded.config.moe;
  const WeightBytes bytes = weight_bytes_of(loaded.model);
  const std::map<std::string, Texts> traffic = traffic_of(dataset, options);
  OrderedJson rows = OrderedJson::array();
  std::map<std::string, Decoded> last;
  {
    WorkProgress progress("decoding");
    int64_t done = 0;
    const auto count = [&, all = cost_of(traffic, options)](int64_t tokens) {
      progress.update(done += tokens + kTokensOfPass, all);
    };
    for (const auto& [name, texts] : traffic) {
      for (const int64_t batch : batches_of(texts, options)) {
        log_info(formatted("%s: batches of %ld", name.c_str(), batch));
        if (rows.empty()) decode(loaded.model, texts, batch, options, [](int64_t) {});  // the first run is slow
        last[name] = decode(loaded.model, texts, batch, options, count);
        rows.push_back(traffic_json(name, batch, last[name], bytes, moe));
      }
    }
  }
  if (rows.empty()) {
    throw ConfigError(formatted("no domain has validation text for %ld texts of %ld tokens: lower --prompt or --steps",
                                options.batch_sizes.front(), options.prompt + options.steps));
  }
  const int devices = static_cast<int>(std::min<int64_t>(options.devices, moe.num_experts));
  return {{"checkpoint", path},
          {"step", loaded.step},
          {"num_experts", moe.num_experts},
          {"top_k", moe.top_k},
          {"expert_bytes", bytes.expert},
          {"shared_bytes", bytes.shared},
          {"threads", at::get_num_threads()},
          {"devices", devices},
          {"traffic", rows},
          {"placement", placement_json(last, moe.num_experts, devices)}};
}

OrderedJson serve_report(const std::string& checkpoint, const std::vector<std::string>& overrides,
                         const ServingOptions& options) {
  LoadedModel loaded = load_model(checkpoint, overrides);
  require_experts(loaded, checkpoint);
  set_threads(loaded.config, {});
  return study_serving(loaded, open_dataset_of(loaded), checkpoint, options);
}

}  // namespace switchyard
