#include "train/trainer.h"

#include "base/errors.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/new_folder.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"
#include "config/load.h"
#include "data/dataset.h"
#include "parallel/agree.h"
#include "train/join.h"
#include "train/loop.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.yaml";

void log_into(const fs::path& folder, const World& world) {
  log_to_file(folder / (world.rank() == 0 ? std::string("log.txt") : formatted("log-rank-%05d.txt", world.rank())));
}

Config open_data(const Config& config, Dataset& dataset, World& world) {
  set_threads(config, world.launch());
  // One rank of each machine prepares what is missing; the others then find it.
  const bool prepares = world.launch().local_rank == 0;
  run_where(world.control(), prepares, [&] { dataset = open_dataset(config); });
  if (!prepares) dataset = open_dataset(config);
  return with_vocabulary(config, dataset.tokenizer->vocab_size());
}

// Runs `train`; what goes wrong on this rank is told to the others, who would wait for it.
TrainOutcome with_world(const Config& config, const std::function<TrainOutcome(const std::shared_ptr<World>&)>& train) {
  const auto world = join_world(config);
  try {
    return train(world);
  } catch (const DistributedError&) {
    // Closing groups would wait for collectives that cannot end; main() leaves without it.
    new std::shared_ptr<World>(world);
    world->leave();
    throw;
  } catch (const std::exception& error) {
    world->announce_failure(error.what());
    throw;
  }
}

void refuse_changes(const Config& before, const Config& config, const std::string& data_fingerprint,
                    const Dataset& dataset, const ResumeOptions& options) {
  const auto changes = architecture_changes(before, config);
  if (!changes.empty() && !options.allow_architecture_change) {
    std::string text = "the checkpoint is of another architecture:";
    for (const std::string& change : changes) text += "\n  " + change;
    throw ConfigError(text + "\nto take the tensors that fit and start the others anew: --allow-architecture-change");
  }
  if (data_fingerprint != dataset.fingerprint && !options.allow_data_change) {
    throw ConfigError("the data has changed: the checkpoint was trained on tokens with fingerprint " +
                      data_fingerprint + ", data.sources now give " + dataset.fingerprint +
                      "; to go on with the new data all the same: --allow-data-change");
  }
}

// The weights of a checkpoint that a new run of `config` can start with.
TensorMap starting_weights(const fs::path& from, const Config& config, const Tokenizer& tokenizer) {
  const fs::path folder = resolve_checkpoint(from);
  Checkpoint checkpoint = load_checkpoint(folder, {.optimizer = false});
  const auto changes = architecture_changes(checkpoint_config(checkpoint, folder, {}), config);
  if (!changes.empty()) {
    std::string text = folder.string() + " is of another architecture:";
    for (const std::string& change : changes) text += "\n  " + change;
    throw ConfigError(text + "\nto take its model section: extends: " + (folder / kConfigFile).string());
  }
  if (checkpoint_tokenizer(checkpoint, folder)->serialize() != tokenizer.serialize()) {
    throw ConfigError("data.tokenizer gives another tokenizer than that of " + folder.string() +
                      ": its tokens would mean something else");
  }
  return std::move(checkpoint.model);
}

}  // namespace

namespace {

TrainOutcome start_over(const Config& requested, const std::shared_ptr<World>& world) {
  const fs::path folder = requested.run.dir;
  log_warning(folder.string() + " has no checkpoint yet: starting over from its configuration");
  Dataset dataset;
  const Config config = open_data(requested, dataset, *world);
  on_first(world->control(), [&] {
    replace_file(folder / kConfigFile, dump_config(config));
    fs::remove(folder / "metrics.jsonl");
  });
  return Trainer(config, std::move(dataset), nullptr, {}, world).run();
}

TrainOutcome go_on(const Config& requested, const fs::path& path, const ResumeOptions& options,
                   const std::shared_ptr<World>& world) {
  const fs::path folder = requested.run.dir;
  const Checkpoint checkpoint = load_checkpoint(path);
  const RunState state = restore_state(checkpoint);
  if (state.step >= requested.training.max_steps && !evaluation_is_due(state, folder)) {
    log_info(formatted("%s is finished: step %ld of %ld; to train longer: training.max_steps=N", folder.c_str(),
                       state.step, requested.training.max_steps));
    return TrainOutcome::kAlreadyFinished;
  }
  Dataset dataset;
  const Config config = open_data(requested, dataset, *world);
  const Config before = checkpoint_config(checkpoint, path, {});
  refuse_changes(before, config, data_fingerprint(checkpoint), dataset, options);
  if (before.run.seed != config.run.seed) {
    log_warning(formatted("run.seed was %ld and is now %ld: data order, dropout and noise go on differently",
                          before.run.seed, config.run.seed));
  }
  on_first(world->control(), [&] { replace_file(folder / kConfigFile, dump_config(config)); });
  log_info(formatted("resuming %s from step %ld", folder.c_str(), state.step));
  return Trainer(config, std::move(dataset), &checkpoint, options, world).run();
}

TrainOutcome resume(const Config& requested, const ResumeOptions& options, const std::shared_ptr<World>& world) {
  const fs::path folder = requested.run.dir;
  log_into(folder, *world);
  // The first rank looks, so that all resume from the same one.
  std::string found;
  on_first(world->control(), [&] {
    remove_leftovers(folder / "checkpoints");
    found = find_latest_checkpoint(folder / "checkpoints").value_or("").string();
  });
  const fs::path path = gather_texts(world->control(), found)[0];
  return path.empty() ? start_over(requested, world) : go_on(requested, path, options, world);
}

}  // namespace

TrainOutcome train_new(const Config& requested, const fs::path& from) {
  return with_world(requested, [&](const std::shared_ptr<World>& world) {
    const fs::path folder = requested.run.dir;
    // The launcher has started the same command again after a failure.
    if (world->launch().restarts > 0 && fs::exists(folder / kConfigFile)) return resume(requested, {}, world);
    on_first(world->control(), [&] {
      if (fs::exists(folder) && (!fs::is_directory(folder) || !fs::is_empty(folder))) {
        throw ConfigError("run.dir " + folder.string() +
                          " exists and is not empty: choose another one, or go on with: switchyard train --resume " +
                          folder.string());
      }
    });
    Dataset dataset;
    const Config config = open_data(requested, dataset, *world);
    const TensorMap weights = from.empty() ? TensorMap{} : starting_weights(from, config, *dataset.tokenizer);
    on_first(world->control(), [&] {
      create_folders(folder);
      replace_file(folder / kConfigFile, dump_config(config));
    });
    log_into(folder, *world);
    Trainer trainer(config, std::move(dataset), nullptr, {}, world);
    if (!from.empty()) trainer.start_with(weights, from.string());
    return trainer.run();
  });
}

TrainOutcome train_resume(const fs::path& folder, const ResumeOptions& options) {
  if (!fs::exists(folder / kConfigFile)) {
    throw ConfigError(folder.string() + " is not a run folder: it holds no " + kConfigFile);
  }
  Config requested = load_config(folder / kConfigFile, options.overrides);
  requested.run.dir = folder.string();
  return with_world(requested, [&](const std::shared_ptr<World>& world) { return resume(requested, options, world); });
}

}  // namespace switchyard
