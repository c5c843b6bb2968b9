#include "train/study_specialisation.h"

#include <filesystem>

#include "base/errors.h"
#include "base/logging.h"
#include "base/text.h"
#include "train/specialisation.h"

namespace switchyard {
namespace {

// The folder of the run that a checkpoint is of, by one name however it is written: of
// runs/demo/checkpoints/step-00000100 it is runs/demo.
std::string run_of(const LoadedModel& loaded) {
  const std::filesystem::path checkpoint = std::filesystem::canonical(loaded.folder);
  const std::filesystem::path folder = checkpoint.parent_path();
  return std::filesystem::proximate(folder.filename() == "checkpoints" ? folder.parent_path() : checkpoint).string();
}

}  // namespace

OrderedJson study_specialisation(const std::vector<std::string>& checkpoints, const std::vector<std::string>& overrides,
                                 const SpecialisationOptions& options) {
  OrderedJson list = OrderedJson::array();
  Dataset dataset;
  std::string shape;
  for (const std::string& path : checkpoints) {
    LoadedModel loaded = load_model(path, overrides);
    require_experts(loaded, path);
    set_threads(loaded.config, {});
    if (list.empty()) dataset = open_dataset_of(loaded);
    const std::string here =
        formatted("%ld MoE layers of %ld experts", num_moe_layers(loaded.config), loaded.config.moe->num_experts);
    if (!list.empty() && here != shape) {
      throw ConfigError(path + " has " + here + " where " + checkpoints.front() + " has " + shape +
                        ": they can't be compared layer by layer");
    }
    shape = here;
    if (dataset.tokenizer->serialize() != loaded.tokenizer->serialize()) {
      throw ConfigError(path + " has another tokenizer than " + checkpoints.front());
    }
    std::vector<std::string> domains;
    for (const Domain& domain : dataset.domains) domains.push_back(domain.name);
    log_info("routing the validation data through " + path);
    SpecialisationStudy study(*loaded.tokenizer, domains, loaded.config.moe->num_experts, options);
    {
      WorkProgress progress("batches routed");
      const BatchUser use = [&](const RoutedBatch& batch) { study.add(batch); };
      route_validation(loaded, dataset, use, &progress);
    }
    OrderedJson entry = {{"name", path},
                         {"run", run_of(loaded)},
                         {"step", loaded.step},
                         {"num_experts", loaded.config.moe->num_experts},
                         {"top_k", loaded.config.moe->top_k}};
    WorkProgress progress("scores held against chance");
    entry.update(study.result(progress));
    list.push_back(std::move(entry));
  }
  return {{"checkpoints", list}};
}

}  // namespace switchyard
