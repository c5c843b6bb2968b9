#include "train/routed_batches.h"

#include <algorithm>
#include <iterator>

#include "base/errors.h"

namespace switchyard {
namespace {

// `batch` holds [B, S + 1] tokens.
void route(LoadedModel& loaded, const TokenBatch& batch, int64_t domain, const BatchUser& use) {
  const torch::NoGradGuard no_grad;
  const BatchTensors tensors = to_tensors(batch, loaded.device);
  RoutedBatch routed{.domain = domain,
                     .num_sequences = batch.num_sequences,
                     .seq_length = batch.seq_length,
                     .tokens = {},
                     .routes = routes_of(loaded.model->forward(tensors.inputs))};
  for (int64_t sequence = 0; sequence < batch.num_sequences; ++sequence) {
    const auto first = batch.tokens.begin() + sequence * (batch.seq_length + 1);
    routed.tokens.insert(routed.tokens.end(), first, first + batch.seq_length);
  }
  for (Routes& routes : routed.routes) {
    routes.expert_ids = routes.expert_ids.cpu().contiguous();
    routes.weights = routes.weights.to(torch::kCPU, torch::kFloat32).contiguous();
    routes.chosen = routes.chosen.cpu().contiguous();
  }
  use(routed);
}

}  // namespace

Dataset open_dataset_of(const LoadedModel& loaded) { return open_dataset(loaded.config, *loaded.tokenizer); }

void require_experts(const LoadedModel& loaded, const std::string& path) {
  if (!loaded.config.moe) throw ConfigError(path + " is a dense model: it has no routing");
}

void route_validation(LoadedModel& loaded, const Dataset& dataset, const BatchUser& use, WorkProgress* progress) {
  const TrainingConfig& training = loaded.config.training;
  std::vector<TokenBatch> batches;
  for (size_t d = 0; d < dataset.domains.size(); ++d) {
    std::ranges::move(validation_batches(dataset, static_cast<int64_t>(d), training.micro_batch_size,
                                         loaded.config.eval.batches, training.seq_length),
                      std::back_inserter(batches));
  }
  for (size_t i = 0; i < batches.size(); ++i) {
    route(loaded, batches[i], batches[i].domains.front(), use);
    if (progress != nullptr) progress->update(static_cast<int64_t>(i + 1), static_cast<int64_t>(batches.size()));
  }
}

void route_tokens(LoadedModel& loaded, const std::vector<int32_t>& tokens, const BatchUser& use) {
  const auto length = static_cast<size_t>(loaded.config.training.seq_length);
  for (size_t begin = 0; begin < tokens.size(); begin += length) {
    TokenBatch batch;
    const size_t end = std::min(tokens.size(), begin + length);
    batch.num_sequences = 1;
    batch.seq_length = static_cast<int64_t>(end - begin);
    batch.tokens.assign(tokens.begin() + static_cast<int64_t>(begin), tokens.begin() + static_cast<int64_t>(end));
    batch.tokens.push_back(0);  // the place of a target, which nothing reads
    route(loaded, batch, -1, use);
  }
}

}  // namespace switchyard
