// The training loop: the only place that knows every part.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/config.h"

namespace switchyard {

enum class TrainOutcome {
  kFinished,         // max_steps reached
  kAlreadyFinished,  // resumed a run that had been finished before; nothing was done
  kStopped,          // by a signal, after saving
};

// A new run in config.run.dir, which must be new or empty. `from`: a checkpoint (as resolve_checkpoint takes it) of the
// same architecture and tokenizer whose weights, and nothing else, the run starts with; empty: random ones. Started by
// a launcher (see parallel/launch.h), this process is one rank of several; started anew by it after a failure, the run
// goes on instead. Throws ConfigError, DataError, CheckpointError, NumericError, DistributedError.
TrainOutcome train_new(const Config& config, const std::filesystem::path& from = {});

struct ResumeOptions {
  std::vector<std::string> overrides;
  bool allow_data_change = false;          // go on although the tokens are others
  bool allow_architecture_change = false;  // take the tensors that fit, start the others anew
};

// Goes on from the newest complete checkpoint of `folder`; from the start when the run was stopped before its first.
TrainOutcome train_resume(const std::filesystem::path& folder, const ResumeOptions& options);

}  // namespace switchyard
