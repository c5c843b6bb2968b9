// A sweep's folder: what has been run there, and what became of it.
//
// <folder>/sweep.yaml is the sweep file as it was read last; runs/NAME/ are ordinary run folders, configs/NAME.yaml the
// configurations they were started with, output/NAME.txt what their processes printed; state.json says what failed and
// how long each run took. All else is in the run folders themselves.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ablate/plan.h"
#include "base/file_lock.h"

namespace switchyard {

enum class RunState {
  kNew,          // nothing to keep
  kInterrupted,  // can be resumed
  kFinished,
  kFailed,
};

struct RunRecord {
  RunState state = RunState::kNew;
  std::string error;   // of a failed run
  double seconds = 0;  // spent on it, over all sessions
};

struct StoreOptions {
  bool retry_failed = false;  // failed runs are run again, from the start
  bool redo_changed = false;  // so are runs that were made with another configuration than the plan's
};

class SweepStore {
 public:
  // Takes the folder for this process (and the children that it starts) and looks what is there. Throws ConfigError
  // when the folder holds something else, or runs whose configuration has changed since; Error when another process
  // has it.
  SweepStore(const Plan& plan, const StoreOptions& options);

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path run_folder(const PlannedRun& run) const { return folder_ / "runs" / run.name; }
  std::filesystem::path config_file(const PlannedRun& run) const { return folder_ / "configs" / (run.name + ".yaml"); }
  std::filesystem::path output_file(const PlannedRun& run) const { return folder_ / "output" / (run.name + ".txt"); }

  const RunRecord& record(const PlannedRun& run) const { return records_.at(run.name); }
  // Names of run folders that the plan has not (any more).
  const std::vector<std::string>& strangers() const { return strangers_; }

  // Makes ready for a start: an empty run folder and the configuration's file.
  void prepare(const PlannedRun& run);
  // Notes how a run went.
  void note(const PlannedRun& run, RunRecord record);

 private:
  void take_lock();
  void read_state();
  void look_at_runs(const Plan& plan, const StoreOptions& options);
  void find_strangers(const Plan& plan);
  void save() const;

  std::filesystem::path folder_;
  std::unique_ptr<FileLock> lock_;
  int64_t threads_ = 0;
  std::map<std::string, RunRecord> records_;
  std::vector<std::string> strangers_;
};

// training.num_threads that the runs of a sweep's folder were given, so that a sweep which goes on elsewhere keeps it;
// 0 when there is no such folder.
int64_t stored_threads(const std::filesystem::path& folder);

}  // namespace switchyard
