#include "train/specialisation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "base/text.h"
#include "metrics/page.h"
#include "train/routing_probe.h"

namespace switchyard {
namespace {

constexpr int64_t kPositionParts = 16;
constexpr size_t kPairs = 128;
constexpr int64_t kScoresOfLayer = 5;
constexpr size_t kTokenTableEntries = 12000;  // of all experts and layers of a page, so that it stays small

Json rounded(double value) { return page::rounded(value, 6); }

OrderedJson score_json(double nats, double label_entropy, double expert_entropy, const PermutationBaseline& chance) {
  const auto share = [nats](double of) { return of > 0 ? std::min(1.0, nats / of) : 0.0; };
  return {{"nats", rounded(nats)},
          {"of_label", rounded(share(label_entropy))},
          {"of_expert", rounded(share(expert_entropy))},
          {"chance", rounded(chance.mean)},
          {"highest_chance", rounded(chance.highest)},
          {"p_value", rounded(chance.p_value)}};
}

OrderedJson information_json(const LabelledChoices& units, const SpecialisationOptions& options) {
  const CountTable counts = count_choices_by_label(units);
  std::vector<double> labels;
  std::vector<double> experts(static_cast<size_t>(units.num_choices), 0.0);
  for (const auto& row : counts) {
    labels.push_back(std::accumulate(row.begin(), row.end(), 0.0));
    std::transform(row.begin(), row.end(), experts.begin(), experts.begin(), std::plus<>());
  }
  return score_json(mutual_information(counts), entropy_in_nats(labels), entropy_in_nats(experts),
                    permutation_baseline(units, options.shufflings, options.seed));
}

OrderedJson load_json(const LabelledChoices& units) {
  OrderedJson rows = OrderedJson::array();
  for (const auto& row : count_choices_by_label(units)) {
    const double total = std::max(1.0, std::accumulate(row.begin(), row.end(), 0.0));
    OrderedJson shares = OrderedJson::array();
    for (const double count : row) shares.push_back(std::round(count / total * 1e5) / 1e5);
    rows.push_back(std::move(shares));
  }
  return rows;
}

// A token in an expert's list.
struct Seen {
  int32_t token;
  double count;  // assignments of it to this expert
  double share;  // of its assignments
  double weight;
};

}  // namespace

int64_t position_parts(int64_t seq_length) { return std::min(kPositionParts, seq_length); }

std::vector<std::string> position_names(int64_t seq_length) {
  const int64_t parts = position_parts(seq_length);
  std::vector<std::string> names;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = (part * seq_length + parts - 1) / parts;
    const int64_t last = ((part + 1) * seq_length + parts - 1) / parts - 1;
    names.push_back(first == last ? std::to_string(first) : std::to_string(first) + "-" + std::to_string(last));
  }
  return names;
}

std::string SpecialisationStudy::text_of(int32_t token) const {
  const std::array<int32_t, 1> one = {token};
  return tokenizer_.decode(one);
}

void SpecialisationStudy::add(const RoutedBatch& batch) {
  seq_length_ = batch.seq_length;
  const int64_t parts = position_parts(batch.seq_length);
  for (int64_t sequence = 0; sequence < batch.num_sequences; ++sequence) {
    std::vector<std::string> texts;
    for (int64_t place = 0; place < batch.seq_length; ++place) {
      const int32_t token = batch.tokens[static_cast<size_t>(sequence * batch.seq_length + place)];
      tokens_.push_back(token);
      texts.push_back(text_of(token));
      positions_.push_back(static_cast<int32_t>(place * parts / batch.seq_length));
    }
    for (const TokenClass kind : classify_tokens(texts)) classes_.push_back(static_cast<int32_t>(kind));
    sequence_begin_.push_back(static_cast<int64_t>(tokens_.size()));
    sequence_domain_.push_back(static_cast<int32_t>(batch.domain));
  }
  layers_.resize(batch.routes.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].index = batch.routes[i].layer;
    append_choices(batch.routes[i], layers_[i]);
  }
}

LabelledChoices SpecialisationStudy::units_by_token(const Layer& layer, const std::vector<int32_t>& labels,
                                                    size_t num_labels) const {
  return {labels, layer.begin, layer.choices, static_cast<int64_t>(num_labels), num_experts_};
}

LabelledChoices SpecialisationStudy::units_by_sequence(const Layer& layer) const {
  LabelledChoices units{sequence_domain_, {}, layer.choices, static_cast<int64_t>(domains_.size()), num_experts_};
  for (const int64_t token : sequence_begin_) units.begin.push_back(layer.begin[static_cast<size_t>(token)]);
  return units;
}

OrderedJson SpecialisationStudy::experts_json(const Layer& layer) const {
  std::map<int32_t, std::vector<double>> counts;  // by token, per expert
  std::vector<double> loads(static_cast<size_t>(num_experts_), 0.0);
  for (size_t t = 0; t < tokens_.size(); ++t) {
    auto& row = counts.try_emplace(tokens_[t], static_cast<size_t>(num_experts_), 0.0).first->second;
    for (int64_t i = layer.begin[t]; i < layer.begin[t + 1]; ++i) {
      ++row[static_cast<size_t>(layer.choices[static_cast<size_t>(i)])];
      ++loads[static_cast<size_t>(layer.choices[static_cast<size_t>(i)])];
    }
  }
  const auto all = static_cast<double>(std::max<size_t>(1, layer.choices.size()));
  const size_t listed =
      std::clamp<size_t>(kTokenTableEntries / (2 * layers_.size() * static_cast<size_t>(num_experts_)), 3, 10);
  OrderedJson experts = OrderedJson::array();
  for (size_t expert = 0; expert < loads.size(); ++expert) {
    std::vector<Seen> seen;
    for (const auto& [token, row] : counts) {
      if (row[expert] == 0) continue;
      const double share = row[expert] / std::accumulate(row.begin(), row.end(), 0.0);
      seen.push_back({token, row[expert], share, row[expert] * std::log(share / (loads[expert] / all))});
    }
    const auto best = [&](auto value) {
      const size_t kept = std::min(listed, seen.size());
      std::partial_sort(
          seen.begin(), seen.begin() + static_cast<int64_t>(kept), seen.end(),
          [&](const Seen& a, const Seen& b) { return value(a) != value(b) ? value(a) > value(b) : a.token < b.token; });
      OrderedJson list = OrderedJson::array();
      for (size_t i = 0; i < kept; ++i) {
        list.push_back({{"text", text_of(seen[i].token)}, {"count", seen[i].count}, {"share", rounded(seen[i].share)}});
      }
      return list;
    };
    OrderedJson most = best([](const Seen& one) { return one.count; });
    experts.push_back({{"most", std::move(most)}, {"typical", best([](const Seen& one) { return one.weight; })}});
  }
  return experts;
}

OrderedJson SpecialisationStudy::given_token_json(const Layer& layer, const std::vector<int32_t>& identities,
                                                  size_t num_tokens) const {
  const KindedChoices units{.part_begin = sequence_begin_,
                            .kinds = identities,
                            .begin = layer.begin,
                            .choices = layer.choices,
                            .num_kinds = static_cast<int64_t>(num_tokens),
                            .num_labels = static_cast<int64_t>(domains_.size()),
                            .num_choices = num_experts_};
  const auto information = [&](const std::vector<int32_t>& labels) { return conditional_information(units, labels); };
  const LabelledChoices by_token = units_by_token(layer, identities, num_tokens);
  const CountTable counts = count_choices_by_label(by_token);
  std::vector<double> experts(static_cast<size_t>(num_experts_), 0.0);
  for (const auto& row : counts)
    std::transform(row.begin(), row.end(), experts.begin(), experts.begin(), std::plus<>());
  // H(expert | token): what is left to tell.
  const double left = entropy_in_nats(experts) - mutual_information(counts);
  return score_json(information(sequence_domain_), conditional_label_entropy(units, sequence_domain_), left,
                    permutation_baseline(sequence_domain_, information, options_.shufflings, options_.seed));
}

OrderedJson SpecialisationStudy::layer_json(const Layer& layer, const std::function<void()>& scored) const {
  std::map<int32_t, int32_t> numbers;  // of the tokens that occur
  for (const int32_t token : tokens_) numbers.try_emplace(token, static_cast<int32_t>(numbers.size()));
  std::vector<int32_t> identities;
  for (const int32_t token : tokens_) identities.push_back(numbers.at(token));
  const LabelledChoices by_domain = units_by_sequence(layer);
  const LabelledChoices by_class = units_by_token(layer, classes_, kNumTokenClasses);
  const LabelledChoices by_position =
      units_by_token(layer, positions_, static_cast<size_t>(position_parts(seq_length_)));
  OrderedJson information;
  const auto add = [&](const char* label, OrderedJson score) {
    information[label] = std::move(score);
    scored();
  };
  add("domain", information_json(by_domain, options_));
  add("domain_given_token", given_token_json(layer, identities, numbers.size()));
  add("class", information_json(by_class, options_));
  add("position", information_json(by_position, options_));
  add("token", information_json(units_by_token(layer, identities, numbers.size()), options_));
  return {{"layer", layer.index},
          {"information", std::move(information)},
          {"load",
           {{"domain", load_json(by_domain)}, {"class", load_json(by_class)}, {"position", load_json(by_position)}}},
          {"pairs", frequent_pairs(pairs_of({layer}, num_experts_), kPairs)},
          {"experts", experts_json(layer)}};
}

// The beginning of the first sequence of every domain.
OrderedJson SpecialisationStudy::samples_json() const {
  OrderedJson samples = OrderedJson::array();
  for (size_t domain = 0; domain < domains_.size(); ++domain) {
    const auto found = std::find(sequence_domain_.begin(), sequence_domain_.end(), static_cast<int32_t>(domain));
    if (found == sequence_domain_.end()) continue;
    const auto sequence = static_cast<size_t>(found - sequence_domain_.begin());
    const auto first = static_cast<size_t>(sequence_begin_[sequence]);
    const size_t last = std::min(static_cast<size_t>(sequence_begin_[sequence + 1]),
                                 first + static_cast<size_t>(options_.sample_tokens));
    OrderedJson sample = {{"domain", domains_[domain]}, {"tokens", OrderedJson::array()}};
    for (size_t t = first; t < last; ++t) sample["tokens"].push_back(text_of(tokens_[t]));
    sample["experts"] = OrderedJson::array();
    for (const Layer& layer : layers_) {
      OrderedJson routes = OrderedJson::array();
      for (size_t t = first; t < last; ++t) {
        routes.push_back(
            std::vector<int32_t>(layer.choices.begin() + layer.begin[t], layer.choices.begin() + layer.begin[t + 1]));
      }
      sample["experts"].push_back(std::move(routes));
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

OrderedJson SpecialisationStudy::result(WorkProgress& progress) const {
  OrderedJson classes = OrderedJson::array();
  for (int kind = 0; kind < kNumTokenClasses; ++kind)
    classes.push_back(token_class_name(static_cast<TokenClass>(kind)));
  OrderedJson layers = OrderedJson::array();
  int64_t scores = 0;
  const auto scored = [&] { progress.update(++scores, kScoresOfLayer * static_cast<int64_t>(layers_.size())); };
  for (const Layer& layer : layers_) layers.push_back(layer_json(layer, scored));
  const std::string verdict = domain_verdict(layers, domains_.size());
  return {{"tokens", tokens_.size()},
          {"sequences", sequence_domain_.size()},
          {"shufflings", options_.shufflings},
          {"domain_names", domains_},
          {"class_names", classes},
          {"position_names", position_names(seq_length_)},
          {"verdict", verdict},
          {"layers", layers},
          {"samples", samples_json()}};
}

std::string domain_verdict(const OrderedJson& layers, size_t num_domains) {
  if (num_domains < 2) return "There is one domain only: whether experts specialise by domain can't be said.";
  const auto score = [](const OrderedJson& layer) { return layer["information"]["domain"]["nats"].get<double>(); };
  const auto best =
      std::max_element(layers.begin(), layers.end(), [&](const auto& a, const auto& b) { return score(a) < score(b); });
  if (best == layers.end()) return "No layer has experts.";
  const OrderedJson& found = (*best)["information"]["domain"];
  const double p = found["p_value"].get<double>();
  const std::string numbers = formatted(
      "in layer %ld, where it is most, the expert of an assignment tells %.2f %% of what is unknown about its domain "
      "(%.4f nats; labels shuffled over the texts give %.4f, at most %.4f; p = %.3f)",
      (*best)["layer"].get<int64_t>(), 100 * found["of_label"].get<double>(), found["nats"].get<double>(),
      found["chance"].get<double>(), found["highest_chance"].get<double>(), p);
  // As many layers as are looked at can be the best by chance (Bonferroni).
  const bool more_than_chance = p * static_cast<double>(layers.size()) < 0.05;
  return (more_than_chance ? "Experts specialise by domain to this degree: "
                           : "Experts do not specialise by domain beyond what chance gives: ") +
         numbers + ".";
}

}  // namespace switchyard
