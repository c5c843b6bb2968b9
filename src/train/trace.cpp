#include "train/trace.h"

#include "config/config.h"
#include "metrics/page.h"

namespace switchyard {

OrderedJson trace_header(const LoadedModel& loaded, const std::string& checkpoint,
                         const std::vector<std::string>& domains) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < loaded.config.model.num_layers; ++layer) {
    if (is_moe_layer(loaded.config, layer)) layers.push_back(layer);
  }
  return {{"format", "switchyard-trace-1"},
          {"checkpoint", checkpoint},
          {"step", loaded.step},
          {"num_experts", loaded.config.moe->num_experts},
          {"top_k", loaded.config.moe->top_k},
          {"layers", layers},
          {"domains", domains},
          {"seq_length", loaded.config.training.seq_length}};
}

const Json& TraceLines::text_of(int32_t token) {
  const auto found = texts_.find(token);
  if (found != texts_.end()) return found->second;
  const std::array<int32_t, 1> one = {token};
  return texts_.emplace(token, tokenizer_.decode(one)).first->second;
}

std::string TraceLines::lines(const RoutedBatch& batch) {
  std::string text;
  for (size_t token = 0; token < batch.tokens.size(); ++token) {
    const auto place = static_cast<int64_t>(token);
    OrderedJson line = {{"sequence", sequences_ + place / batch.seq_length},
                        {"position", place % batch.seq_length},
                        {"token", batch.tokens[token]},
                        {"text", text_of(batch.tokens[token])}};
    if (batch.domain >= 0) line["domain"] = domains_.at(static_cast<size_t>(batch.domain));
    for (const Routes& routes : batch.routes) {
      const int64_t top_k = routes.expert_ids.size(1);
      Json experts = Json::array();
      Json weights = Json::array();
      for (int64_t choice = place * top_k; choice < (place + 1) * top_k; ++choice) {
        if (!routes.chosen.const_data_ptr<bool>()[choice]) continue;
        experts.push_back(routes.expert_ids.const_data_ptr<int64_t>()[choice]);
        // What a float32 weight is worth, and half the text.
        weights.push_back(page::rounded(double{routes.weights.const_data_ptr<float>()[choice]}, 6));
      }
      line["layer"] = routes.layer;
      line["experts"] = std::move(experts);
      line["weights"] = std::move(weights);
      text += line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
    }
  }
  sequences_ += batch.num_sequences;
  return text;
}

void TraceTensors::add(const RoutedBatch& batch) {
  const auto tokens = static_cast<int64_t>(batch.tokens.size());
  const torch::Tensor place = torch::arange(tokens, torch::kInt64);
  const auto put = [&](const std::string& name, const torch::Tensor& values) {
    parts_[name].push_back(values.to(torch::kInt32));
  };
  put("token", torch::tensor(std::vector<int64_t>(batch.tokens.begin(), batch.tokens.end()), torch::kInt64));
  put("sequence", torch::floor_divide(place, batch.seq_length) + sequences_);
  put("position", place.remainder(batch.seq_length));
  put("domain", torch::full({tokens}, batch.domain, torch::kInt64));
  for (const Routes& routes : batch.routes) {
    const std::string name = "layers." + std::to_string(routes.layer);
    put(name + ".experts", torch::where(routes.chosen, routes.expert_ids, -1));
    parts_[name + ".weights"].push_back(torch::where(routes.chosen, routes.weights, 0.0));
  }
  sequences_ += batch.num_sequences;
}

TensorMap TraceTensors::tensors() const {
  TensorMap map;
  for (const auto& [name, parts] : parts_) map[name] = torch::cat(parts);
  return map;
}

}  // namespace switchyard
