// Whether experts specialise: what domain, kind, place and identity of a token have to do with its experts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "metrics/information.h"
#include "metrics/placement.h"
#include "metrics/token_classes.h"
#include "train/routed_batches.h"
#include "train/study_specialisation.h"

namespace switchyard {

// Gathers routed validation batches of one checkpoint.
class SpecialisationStudy {
 public:
  SpecialisationStudy(const Tokenizer& tokenizer, std::vector<std::string> domains, int64_t num_experts,
                      const SpecialisationOptions& options)
      : tokenizer_(tokenizer), domains_(std::move(domains)), num_experts_(num_experts), options_(options) {}

  void add(const RoutedBatch& batch);
  // tokens, sequences, domain_names, class_names, position_names, verdict, samples and per layer:
  //   information  {"domain" | "domain_given_token" | "class" | "position" | "token": {nats, of_label, of_expert,
  //                chance, highest_chance, p_value}}, see metrics/information.h; over assignments, all choices alike.
  //                Domains are shuffled over whole sequences, the others over tokens
  //   load         {"domain" | "class" | "position": a row per label, the shares of the experts}
  //   pairs        [[a, b, tokens]], the most frequent pairs of experts
  //   experts      per expert {"most", "typical"}: [{text, count, share}], the most frequent tokens and those with the
  //                largest count * log(P(expert | token) / P(expert)); share is P(expert | token)
  // `progress` counts scores.
  OrderedJson result(WorkProgress& progress) const;

 private:
  struct Layer : TokenChoices {
    int64_t index = 0;
  };
  std::string text_of(int32_t token) const;
  LabelledChoices units_by_token(const Layer& layer, const std::vector<int32_t>& labels, size_t num_labels) const;
  LabelledChoices units_by_sequence(const Layer& layer) const;
  // What the domain tells of the expert beyond what the token itself does. `identities` [T] in [0, num_tokens).
  OrderedJson given_token_json(const Layer& layer, const std::vector<int32_t>& identities, size_t num_tokens) const;
  // `scored` is called after each score.
  OrderedJson layer_json(const Layer& layer, const std::function<void()>& scored) const;
  OrderedJson experts_json(const Layer& layer) const;
  OrderedJson samples_json() const;

  const Tokenizer& tokenizer_;
  std::vector<std::string> domains_;
  int64_t num_experts_;
  SpecialisationOptions options_;
  std::vector<int32_t> tokens_;                // [T]
  std::vector<int32_t> classes_;               // [T]
  std::vector<int32_t> positions_;             // [T] part of the sequence, see position_names()
  std::vector<int64_t> sequence_begin_ = {0};  // [sequences + 1], in tokens
  std::vector<int32_t> sequence_domain_;       // [sequences]
  int64_t seq_length_ = 0;
  std::vector<Layer> layers_;
};

// How many parts a sequence is cut into, and their names ("0-15").
int64_t position_parts(int64_t seq_length);
std::vector<std::string> position_names(int64_t seq_length);

// One sentence on the layer whose experts tell the most about the domain.
std::string domain_verdict(const OrderedJson& layers, size_t num_domains);

}  // namespace switchyard
