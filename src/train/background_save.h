// Saving while training goes on.
#pragma once

#include <future>
#include <string>

#include "checkpoint/checkpoint.h"

namespace switchyard {

// One save at a time, in a thread of its own. The tensors are copied first, so that what is saved is what was there.
class BackgroundSave {
 public:
  BackgroundSave() = default;
  ~BackgroundSave();  // waits; an error is lost
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  // The one before must have been waited for. `ranks` must outlive the save and is used by nothing else meanwhile; all
  // ranks call this at the same step. Arguments as of save_checkpoint_share().
  void start(const std::filesystem::path& folder, Checkpoint checkpoint, CheckpointShare share, int64_t keep_last,
             Group& ranks);
  // Where the checkpoint is, if one has been finished since the last call; "" otherwise. Throws what saving threw.
  std::string finished();
  // The same after waiting for it.
  std::string wait();

 private:
  std::future<std::string> path_;
};

}  // namespace switchyard
