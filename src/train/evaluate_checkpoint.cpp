#include "base/progress.h"
#include "train/evaluate.h"
#include "train/routed_batches.h"

namespace switchyard {

CheckpointEvaluation evaluate_checkpoint(const std::string& path, const std::vector<std::string>& overrides) {
  LoadedModel loaded = load_model(path, overrides);
  warn_if_not_causal(loaded.config);
  set_threads(loaded.config, {});
  const Dataset dataset = open_dataset_of(loaded);
  const int64_t batches = num_validation_batches(dataset, loaded.config);
  WorkProgress progress("batches evaluated");
  const auto observe = [&, done = int64_t{0}](int64_t, const ModelOutput&, bool) mutable {
    progress.update(++done, batches);
  };
  auto evaluation = evaluate(loaded.model, dataset, loaded.config, loaded.device, *World::alone(), {}, observe);
  return {std::move(evaluation).value(), loaded.step};
}

}  // namespace switchyard
