#include "ablate/sweep_store.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/logging.h"
#include "base/text.h"
#include "config/load.h"
#include "metrics/run_metrics.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char* kStateFile = "state.json";
constexpr int kVersion = 1;
constexpr uint64_t kMostThreads = 1024;  // as training.num_threads
// The children of a sweep that was killed save their runs before they end; so long a new one waits for them.
constexpr auto kPatience = 60s;

// Entries may be absent, but not of another type.
bool is_state(const Json& state) {
  const auto is_or_absent = [](const Json& object, const char* key, auto is_type) {
    const auto found = object.find(key);
    return found == object.end() || is_type(*found);
  };
  const auto is_record = [&](const Json& run) {
    return run.is_object() && is_or_absent(run, "failed", [](const Json& value) { return value.is_boolean(); }) &&
           is_or_absent(run, "error", [](const Json& value) { return value.is_string(); }) &&
           is_or_absent(run, "seconds", [](const Json& value) { return value.is_number(); });
  };
  if (!state.is_object() || !state.contains("version") || state["version"] != kVersion) return false;
  const auto is_thread_count = [](const Json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() <= kMostThreads;
  };
  if (!is_or_absent(state, "threads", is_thread_count)) return false;
  return state.contains("runs") && state["runs"].is_object() &&
         std::all_of(state["runs"].begin(), state["runs"].end(), is_record);
}

Json read_state_file(const fs::path& folder) {
  const fs::path file = folder / kStateFile;
  Json state = parse_json(read_file(file, 1 << 28), file.string());
  if (!is_state(state)) {
    throw Error(file.string() + " is not of a sweep of this version of the program");
  }
  return state;
}

// Whether a folder holds anything, and not that of a sweep. One that was killed at once may have left its lock alone.
bool is_foreign(const fs::path& folder) {
  if (!fs::exists(folder) || fs::exists(folder / kStateFile)) return false;
  if (!fs::is_directory(folder)) return true;
  return std::any_of(fs::directory_iterator(folder), fs::directory_iterator(),
                     [](const fs::directory_entry& entry) { return entry.path().filename() != "lock"; });
}

bool is_finished(const fs::path& run, const Config& config) {
  if (!fs::exists(run / "metrics.jsonl")) return false;
  try {
    const RunMetrics metrics = read_run_metrics(run);
    return metrics.status == RunStatus::kFinished && metrics.last_step == config.training.max_steps;
  } catch (const Error&) {
    return false;  // cut short; resuming mends it or says what is wrong
  }
}

// What differs between the configuration that a run was started with and the plan's; "" when nothing does.
std::string changes_of(const fs::path& config_file, const Config& planned) {
  const Config before = load_config(config_file);
  std::string text;
  for (const ConfigDifference& difference : compare_configs(before, planned)) {
    if (difference.key == "run.dir") continue;  // the folder was moved or is called from elsewhere
    text +=
        (text.empty() ? "" : ", ") + difference.key + " was " + difference.before + " and is now " + difference.after;
  }
  return text;
}

}  // namespace

SweepStore::SweepStore(const Plan& plan, const StoreOptions& options) : folder_(plan.folder) {
  if (is_foreign(folder_)) {
    throw ConfigError(folder_.string() + " exists and is not the folder of a sweep: choose another one with run.dir=");
  }
  fs::create_directories(folder_);
  take_lock();
  threads_ = plan.runs.front().config.training.num_threads;
  if (fs::exists(folder_ / kStateFile)) read_state();
  look_at_runs(plan, options);
  find_strangers(plan);
  save();
  replace_file(folder_ / "sweep.yaml", plan.sweep_text);
  for (const char* part : {"runs", "configs", "output"}) fs::create_directories(folder_ / part);
}

// The children inherit the lock: it is free when all of them have ended.
void SweepStore::take_lock() {
  lock_ = std::make_unique<FileLock>(folder_ / "lock", /*with_children=*/true);
  if (lock_->take(0s)) return;
  log_info("waiting for the runs of another ablate in " + folder_.string() + " to end");
  if (lock_->take(kPatience)) return;
  throw Error("another ablate is at work in " + folder_.string() + " (" + lock_->holder() +
              " or its runs): stop it, or choose another run.dir");
}

void SweepStore::read_state() {
  const Json state = read_state_file(folder_);
  for (const auto& [name, entry] : state.at("runs").items()) {
    RunRecord record;
    if (entry.value("failed", false)) record.state = RunState::kFailed;
    record.error = entry.value("error", std::string());
    record.seconds = entry.value("seconds", 0.0);
    records_[name] = std::move(record);
  }
}

void SweepStore::look_at_runs(const Plan& plan, const StoreOptions& options) {
  std::string changed;
  int64_t count = 0;
  for (const PlannedRun& run : plan.runs) {
    RunRecord& record = records_[run.name];
    const fs::path folder = run_folder(run);
    const std::string changes = fs::exists(config_file(run)) ? changes_of(config_file(run), run.config) : "";
    if ((!changes.empty() && options.redo_changed) || (record.state == RunState::kFailed && options.retry_failed)) {
      fs::remove_all(folder);
      fs::remove(output_file(run));
      fs::remove(config_file(run));
      record = {};
    } else if (!changes.empty()) {
      if (++count <= 5) changed += "\n  " + run.name + ": " + changes;
      continue;
    }
    if (record.state == RunState::kFailed) continue;
    record.state = is_finished(folder, run.config)      ? RunState::kFinished
                   : fs::exists(folder / "config.yaml") ? RunState::kInterrupted
                                                        : RunState::kNew;
  }
  if (count == 0) return;
  if (count > 5) changed += "\n  and " + std::to_string(count - 5) + " more";
  throw ConfigError("the sweep has changed since runs in " + folder_.string() + " were made:" + changed +
                    "\nchoose another folder with run.dir=, or run these again, from the start, with --redo-changed");
}

void SweepStore::find_strangers(const Plan& plan) {
  std::set<std::string> planned;
  for (const PlannedRun& run : plan.runs) planned.insert(run.name);
  if (!fs::exists(folder_ / "runs")) return;
  for (const auto& entry : fs::directory_iterator(folder_ / "runs")) {
    const std::string name = entry.path().filename().string();
    if (!planned.contains(name)) strangers_.push_back(name);
  }
  std::sort(strangers_.begin(), strangers_.end());
}

void SweepStore::prepare(const PlannedRun& run) {
  fs::remove_all(run_folder(run));
  replace_file(config_file(run), dump_config(run.config));
}

void SweepStore::note(const PlannedRun& run, RunRecord record) {
  records_[run.name] = std::move(record);
  save();
}

void SweepStore::save() const {
  OrderedJson runs = OrderedJson::object();
  for (const auto& [name, record] : records_) {
    OrderedJson entry = {{"seconds", record.seconds}};
    if (record.state == RunState::kFailed) {
      entry["failed"] = true;
      entry["error"] = record.error;
    }
    runs[name] = std::move(entry);
  }
  const OrderedJson state = {{"version", kVersion}, {"threads", threads_}, {"runs", std::move(runs)}};
  replace_file(folder_ / kStateFile, state.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

int64_t stored_threads(const fs::path& folder) {
  return fs::exists(folder / kStateFile) ? read_state_file(folder).value("threads", int64_t{0}) : 0;
}

}  // namespace switchyard
