#include "train/trainer.h"

#include <algorithm>

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
#include "train/run_folder.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

void log_into(const fs::path& folder, const World& world) {
  log_to_file(folder / (world.rank() == 0 ? std::string("log.txt") : formatted("log-rank-%05d.txt", world.rank())));
}

Config open_data(const Config& config, Dataset& dataset, World& world) {
  set_threads(config, world.launch());
  // One rank of each machine prepares what is missing; the others then find it.
  const bool prepares = world.launch().local_rank == 0;
  run_where(world.control(), prepares, [&] { dataset = open_dataset(config); });
  if (!prepares) dataset = open_dataset(config);
  require_same(world.control(), "content of data.sources", dataset.fingerprint);  // machines may have other files
  num_validation_batches(dataset, config);  // throws where a text is too short, which the first evaluation would find
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

// The weights of the checkpoint `folder` that a run of `config` can begin with.
TensorMap starting_weights(const fs::path& folder, const Config& config, const Tokenizer& tokenizer) {
  Checkpoint checkpoint = load_checkpoint(folder, {.optimizer = false});
  const auto changes = architecture_changes(checkpoint_config(checkpoint, folder, {}), config);
  if (!changes.empty()) {
    std::string text = folder.string() + " is of another architecture:";
    for (const std::string& change : changes) text += "\n  " + change;
    throw ConfigError(text + "\nto take its model section: extends: " + (folder / kResolvedConfig).string());
  }
  if (checkpoint_tokenizer(checkpoint, folder)->serialize() != tokenizer.serialize()) {
    throw ConfigError("data.tokenizer gives another tokenizer than that of " + folder.string() +
                      ": its tokens would mean something else");
  }
  return std::move(checkpoint.model);
}

// A run from step 1, with the weights of the checkpoint `from`, random ones where that is "". What may fail does so
// before `make_folder`: a start that failed leaves nothing behind.
TrainOutcome train_from_start(const Config& requested, const std::string& from, const std::shared_ptr<World>& world,
                              const std::function<void(const Config& config)>& make_folder) {
  Dataset dataset;
  const Config config = open_data(requested, dataset, *world);
  const auto tokenizer = dataset.tokenizer;
  Trainer trainer(config, std::move(dataset), nullptr, {}, world);
  if (!from.empty()) trainer.start_with(starting_weights(from, config, *tokenizer), from);
  make_folder(config);
  return trainer.run();
}

bool other_weights(const DataConfig& before, const DataConfig& now) {
  const auto same = [](const SourceConfig& a, const SourceConfig& b) { return a.weight == b.weight; };
  return !std::equal(before.sources.begin(), before.sources.end(), now.sources.begin(), now.sources.end(), same);
}

// What becomes of the order of the data, where a change touches it.
void say_changes(const Config& before, const Config& config, const RunState& state) {
  const TrainingConfig& was = before.training;
  const TrainingConfig& is = config.training;
  if (*was.global_batch_size != *is.global_batch_size) {
    log_info(
        formatted("training.global_batch_size was %ld and is now %ld: the data goes on after the %ld sequences seen",
                  *was.global_batch_size, *is.global_batch_size, state.tokens / is.seq_length));
  }
  if (was.seq_length != is.seq_length) {
    log_warning(
        formatted("training.seq_length was %ld and is now %ld: the data goes on after as many tokens, in other "
                  "windows: some text comes again, and some later, than in one pass",
                  was.seq_length, is.seq_length));
  }
  if (other_weights(before.data, config.data)) {
    log_warning(
        "the weights of data.sources have changed: each source goes on where a run that always had the new ones would "
        "be, so that some of its text comes again or is passed over");
  }
  if (before.run.seed != config.run.seed) {
    log_warning(formatted("run.seed was %ld and is now %ld: data order, dropout and noise go on differently",
                          before.run.seed, config.run.seed));
  }
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
  say_changes(before, config, state);
  Trainer trainer(config, std::move(dataset), &checkpoint, options, world);
  on_first(world->control(), [&] {
    note_saved(folder);
    replace_file(folder / kResolvedConfig, dump_config(config));
  });
  log_info(formatted("resuming %s from step %ld", folder.c_str(), state.step));
  return trainer.run();
}

// `requested` is a configuration of the run in requested.run.dir.
TrainOutcome resume(const Config& requested, const ResumeOptions& options, const std::shared_ptr<World>& world) {
  const fs::path folder = requested.run.dir;
  std::unique_ptr<FileLock> lock;
  on_first(world->control(), [&] { lock = lock_run(folder); });
  log_into(folder, *world);
  // The first rank looks, so that all resume from the same one.
  const std::string path = from_first(world->control(), [&] {
    remove_leftovers(folder / "checkpoints");
    return find_latest_checkpoint(folder / "checkpoints").value_or("").string();
  });
  if (!path.empty()) return go_on(requested, path, options, world);
  const std::string from = from_first(world->control(), [&] { return source_to_start_over(folder); });
  log_warning(folder.string() + " has no checkpoint yet: starting over from its configuration" +
              (from.empty() ? "" : " and the weights of " + from));
  return train_from_start(requested, from, world, [&](const Config& config) {
    on_first(world->control(), [&] { begin_run(folder, read_run_mark(folder), config); });
  });
}

// Whether the launcher has started this run again after a failure, and not a command that was refused before.
bool is_started_again(const fs::path& folder, World& world) {
  if (world.launch().restarts == 0) return false;
  const auto known = [&]() -> std::string {
    return has_run_mark(folder) && read_run_mark(folder).job == world.launch().job ? "yes" : "";
  };
  return !from_first(world.control(), known).empty();
}

}  // namespace

TrainOutcome train_new(const Config& requested, const fs::path& from) {
  return with_world(requested, [&](const std::shared_ptr<World>& world) {
    const fs::path folder = requested.run.dir;
    if (is_started_again(folder, *world)) return resume(requested, {}, world);
    std::unique_ptr<FileLock> lock;
    on_first(world->control(), [&] {
      if (has_run_mark(folder)) lock = lock_run(folder);
      require_room_for_run(folder);
    });
    const std::string source = from_first(
        world->control(), [&]() -> std::string { return from.empty() ? "" : resolve_checkpoint(from).string(); });
    return train_from_start(requested, source, world, [&](const Config& config) {
      on_first(world->control(), [&] {
        create_folders(folder);
        if (!lock) lock = lock_run(folder);
        require_room_for_run(folder);  // nobody else has begun here meanwhile
        begin_run(folder, mark_of_start(source, world->launch().job), config);
      });
      log_into(folder, *world);
    });
  });
}

TrainOutcome train_resume(const fs::path& folder, const ResumeOptions& options) {
  require_run(folder);
  Config requested = load_config(folder / kResolvedConfig, options.overrides);
  requested.run.dir = folder.string();
  return with_world(requested, [&](const std::shared_ptr<World>& world) { return resume(requested, options, world); });
}

}  // namespace switchyard
