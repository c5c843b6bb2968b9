#include "train/run_folder.h"

#include <algorithm>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/logging.h"
#include "checkpoint/manifest.h"
#include "checkpoint/step_folders.h"
#include "config/load.h"
#include "metrics/jsonl.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarkFile = "run.json";
constexpr const char* kLockFile = "lock";
constexpr const char* kMetricsFile = "metrics.jsonl";
// Tells our run.json from others'.
constexpr const char* kMarkKey = "switchyard_run";
constexpr int kMarkVersion = 1;
// A process that was killed may still be giving its memory back.
constexpr std::chrono::milliseconds kPatienceForRun{2000};

bool has_checkpoints(const fs::path& folder) { return !list_step_folders(folder / "checkpoints").empty(); }

bool has_trained(const fs::path& folder) {
  if (!fs::exists(folder / kMetricsFile)) return false;
  const std::vector<Json> lines = read_jsonl(folder / kMetricsFile);
  return std::any_of(lines.begin(), lines.end(), [](const Json& line) { return is_event(line, "train"); });
}

// The run that a folder inside it belongs to, "" for none.
fs::path run_around(const fs::path& folder) {
  const fs::path whole = (fs::absolute(folder).lexically_normal() / "").parent_path();
  for (const fs::path& above : {whole.parent_path(), whole.parent_path().parent_path()}) {
    if (has_run_mark(above)) return above;
  }
  return {};
}

// What a folder that is no run is, and what to do with it.
std::string what_it_is(const fs::path& folder) {
  if (!fs::exists(folder)) return "there is no folder " + folder.string();
  const std::string name = folder.string();
  if (!fs::is_directory(folder)) {
    return name + " is a file; --resume takes a run folder (to start a run of a configuration: switchyard train " +
           name + ")";
  }
  const fs::path run = run_around(folder);
  if (!run.empty()) return name + " is inside the run " + run.string() + ": switchyard train --resume " + run.string();
  if (fs::exists(folder / kManifestFile)) {
    return name +
           " is a checkpoint, not a run folder; a new run begins with its weights: switchyard train CONFIG --from " +
           name;
  }
  if (fs::exists(folder / "sweep.yaml") && fs::exists(folder / "state.json")) {
    return name + " is the folder of a sweep, not of a run: start switchyard ablate again as it was started";
  }
  return name + " is not a run folder: it holds no " + kMarkFile + " of a run";
}

void write_run_mark(const fs::path& folder, const RunMark& mark) {
  const OrderedJson json = {{kMarkKey, kMarkVersion},
                            {"saved", mark.saved},
                            {"from", mark.from},
                            {"from_checksum", mark.from_checksum},
                            {"job", mark.job}};
  replace_file(folder / kMarkFile, json.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

}  // namespace

bool has_run_mark(const fs::path& folder) {
  try {
    return fs::is_regular_file(folder / kMarkFile) &&
           parse_json(read_file(folder / kMarkFile, 1 << 20), kMarkFile).contains(kMarkKey);
  } catch (const Error&) {
    return false;
  }
}

RunMark mark_of_start(const fs::path& checkpoint, const std::string& job) {
  RunMark mark;
  mark.job = job;
  if (checkpoint.empty()) return mark;
  mark.from = fs::absolute(checkpoint).lexically_normal().string();
  mark.from_checksum = checksum_file(checkpoint / kManifestFile);
  return mark;
}

RunMark read_run_mark(const fs::path& folder) {
  const fs::path file = folder / kMarkFile;
  if (!fs::exists(file)) return {};
  try {
    const Json json = parse_json(read_file(file, 1 << 20), file.string());
    if (json.at(kMarkKey) != kMarkVersion) throw Error(file.string() + " is of a newer version of the program");
    return {.saved = json.at("saved").get<bool>(),
            .from = json.at("from").get<std::string>(),
            .from_checksum = json.at("from_checksum").get<std::string>(),
            .job = json.at("job").get<std::string>()};
  } catch (const Json::exception& error) {
    throw Error(file.string() + " is not the mark of a run: " + error.what());
  }
}

void require_run(const fs::path& folder) {
  if (has_run_mark(folder)) {
    if (fs::exists(folder / kResolvedConfig)) return;
    throw ConfigError("the run in " + folder.string() + " ended before it had begun (no " + kResolvedConfig +
                      " there): start it again with switchyard train CONFIG");
  }
  // Runs of earlier versions have no mark; a checkpoint says as well what they are.
  const bool unmarked = fs::is_directory(folder) && !fs::exists(folder / kManifestFile) &&
                        fs::exists(folder / kResolvedConfig) && has_checkpoints(folder);
  if (!unmarked) throw ConfigError(what_it_is(folder));
}

void require_room_for_run(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  const std::string name = folder.string();
  if (!fs::is_directory(folder)) throw ConfigError("run.dir " + name + " is a file: choose another one");
  // As a process leaves it that was killed at once.
  const auto counts_not = [](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    return name == kLockFile || name.starts_with(std::string(kMarkFile) + ".tmp-");
  };
  const bool empty = std::all_of(fs::directory_iterator(folder), fs::directory_iterator(), counts_not);
  if (empty) return;
  const bool run = has_run_mark(folder);
  if (run && !read_run_mark(folder).saved && !has_checkpoints(folder) && !has_trained(folder)) return;
  throw ConfigError("run.dir " + name + " exists and is not empty: choose another one" +
                    (run || has_checkpoints(folder) ? ", or go on with: switchyard train --resume " + name : ""));
}

std::unique_ptr<FileLock> lock_run(const fs::path& folder) {
  auto lock = std::make_unique<FileLock>(folder / kLockFile);
  bool taken = false;
  try {
    taken = lock->take(kPatienceForRun);
  } catch (const Error& error) {
    log_warning(std::string(error.what()) + "; a second process that trains into this folder would not be noticed");
    return nullptr;
  }
  if (taken) return lock;
  throw ConfigError("the run folder " + folder.string() + " is in use by " + lock->holder() +
                    ": wait until it ends, or choose another run.dir");
}

void begin_run(const fs::path& folder, const RunMark& mark, const Config& config) {
  write_run_mark(folder, mark);  // first: a folder with a configuration always has one
  replace_file(folder / kResolvedConfig, dump_config(config));
  fs::remove(folder / kMetricsFile);
}

void note_saved(const fs::path& folder) {
  try {
    RunMark mark = read_run_mark(folder);
    if (mark.saved) return;
    mark.saved = true;
    write_run_mark(folder, mark);
  } catch (const Error& error) {
    log_warning(error.what());  // the checkpoint is there, and that is what counts
  }
}

std::string source_to_start_over(const fs::path& folder) {
  const RunMark mark = read_run_mark(folder);
  const std::string name = folder.string();
  if (mark.saved) {
    throw CheckpointError("the checkpoints of the run " + name + " are gone: steps were saved, but " +
                          (folder / "checkpoints").string() + " holds none; put them back, or start a new run");
  }
  if (mark.from.empty()) return "";
  const fs::path manifest = fs::path(mark.from) / kManifestFile;
  const std::string begun =
      "the run " + name + " began with the weights of " + mark.from + " and has no checkpoint yet, ";
  if (!fs::exists(manifest))
    throw CheckpointError(begun + "but that checkpoint is gone: put it back, or start a new run");
  if (checksum_file(manifest) != mark.from_checksum) {
    throw CheckpointError(begun + "but that checkpoint is another one now: start a new run");
  }
  return mark.from;
}

}  // namespace switchyard
