// What makes a folder a run's, and keeps a second process out of it.
//
// run.json is the mark of a run: whether a step has ever been saved, and which checkpoint's weights it began with. The
// file `lock` is held by the process that trains. Of several ranks only the first one changes anything here.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/file_lock.h"
#include "config/config.h"

namespace switchyard {

inline constexpr const char* kResolvedConfig = "config.yaml";

struct RunMark {
  bool saved = false;         // there has been a checkpoint
  std::string from;           // the checkpoint whose weights the run began with, an absolute path; "": random ones
  std::string from_checksum;  // of that one's manifest
  std::string job;            // the launch that it was begun by (Launch::job)
};

// A run that begins with the weights of `checkpoint`; with random ones where that is empty. Throws Error.
RunMark mark_of_start(const std::filesystem::path& checkpoint, const std::string& job);

// The mark of a folder; one of a run that knows nothing where there is none. Throws Error where it is damaged.
RunMark read_run_mark(const std::filesystem::path& folder);
bool has_run_mark(const std::filesystem::path& folder);

// Throws ConfigError unless `folder` is a run's, saying what it is instead and what to do with that.
void require_run(const std::filesystem::path& folder);

// Throws ConfigError unless a new run may begin in `folder`: it is new, or empty, or of a run that came to no step.
void require_room_for_run(const std::filesystem::path& folder);

// Takes the folder for this process, for as long as the lock lives. Throws ConfigError naming the process that has it.
// Null, after a warning, where the file system knows no locks.
std::unique_ptr<FileLock> lock_run(const std::filesystem::path& folder);

// Makes the (locked) folder that of a run at its very start: mark, config.yaml, no metrics. Throws Error.
void begin_run(const std::filesystem::path& folder, const RunMark& mark, const Config& config);

// Remembers that a checkpoint has been there, so that a run whose checkpoints are gone does not start over.
void note_saved(const std::filesystem::path& folder);

// The checkpoint that a run without any checkpoint starts over from, "" for random weights. Throws CheckpointError
// where that is not possible: checkpoints that were there are gone, or the one that it began with is, or has changed.
std::string source_to_start_over(const std::filesystem::path& folder);

}  // namespace switchyard
