#include "ablate/runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <limits>
#include <memory>
#include <thread>

#include "ablate/child_process.h"
#include "ablate/run_output.h"
#include "base/errors.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/system.h"
#include "base/text.h"
#include "train/signals.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLookAtChildren{50};
constexpr int kStoppedAfterSaving = 75;
constexpr double kShareOfMemory =
    0.8;  // of what is free; the rest is for the page cache and for errors of the estimate

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A run that is going on.
class ActiveRun {
 public:
  ActiveRun(const PlannedRun& run, SweepStore& store)
      : run_(run), output_(store.output_file(run)), before_(store.record(run)) {
    read_from_ = fs::exists(output_) ? fs::file_size(output_) : 0;
    std::vector<std::string> words = {"train"};
    if (before_.state == RunState::kInterrupted) {
      words.insert(words.end(), {"--resume", store.run_folder(run).string()});
    } else {
      store.prepare(run);
      words.push_back(store.config_file(run).string());
    }
    child_ = std::make_unique<ChildProcess>(words, output_);
  }

  const PlannedRun& run() const { return run_; }
  ChildProcess& child() { return *child_; }
  double seconds() const { return seconds_since(started_); }

  // The last progress line, "" before the first.
  std::string progress_line() const { return last_progress_line(output()); }

  // Which share of its steps was done since the start, for a run that began with step 0; else 0.
  double share_done() const {
    if (before_.state == RunState::kInterrupted) return 0;
    return static_cast<double>(std::max<int64_t>(0, step_of_progress_line(progress_line()))) /
           static_cast<double>(run_.config.training.max_steps);
  }

  // How it ended.
  RunRecord record(int exit_code) const {
    RunRecord record{.state = RunState::kFinished, .error = {}, .seconds = before_.seconds + seconds()};
    if (exit_code == kStoppedAfterSaving) record.state = RunState::kInterrupted;
    if (exit_code != 0 && exit_code != kStoppedAfterSaving) {
      record.state = RunState::kFailed;
      record.error = error_in_output(output(), exit_code);
    }
    return record;
  }

 private:
  // What it printed since it was started.
  std::string output() const {
    if (!fs::exists(output_)) return "";
    const std::string text = read_file(output_);
    return text.substr(std::min<size_t>(read_from_, text.size()));
  }

  const PlannedRun& run_;
  fs::path output_;
  RunRecord before_;
  uintmax_t read_from_ = 0;
  Clock::time_point started_ = Clock::now();
  std::unique_ptr<ChildProcess> child_;
};

class Runner {
 public:
  Runner(const Plan& plan, SweepStore& store, int64_t jobs, const std::function<void()>& after_run)
      : plan_(plan), store_(store), jobs_(static_cast<size_t>(jobs)), after_run_(after_run) {
    for (const PlannedRun& run : plan.runs) {
      const RunState state = store.record(run).state;
      if (state == RunState::kNew || state == RunState::kInterrupted) waiting_.push_back(&run);
    }
    // Interrupted runs first: they are nearest to their end.
    std::stable_partition(waiting_.begin(), waiting_.end(),
                          [&](const PlannedRun* run) { return store.record(*run).state == RunState::kInterrupted; });
    before_terminal_message([this] { line_.clear(); });
  }
  ~Runner() { before_terminal_message({}); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  SweepOutcome run() {
    const StopSignals signals(/*answers=*/false);  // stop() does, in a moment
    while (!active_.empty() || (!waiting_.empty() && !stopping_)) {
      if (StopSignals::received() && !signalled_) stop();
      while (!stopping_ && !waiting_.empty() && active_.size() < jobs_) start_next();
      collect();
      show_progress();
      std::this_thread::sleep_for(kLookAtChildren);
    }
    line_.clear();
    const auto failed = [&](const PlannedRun& run) { return store_.record(run).state == RunState::kFailed; };
    if (stopping_) return SweepOutcome::kStopped;
    return std::any_of(plan_.runs.begin(), plan_.runs.end(), failed) ? SweepOutcome::kSomeFailed : SweepOutcome::kDone;
  }

 private:
  std::string described(const PlannedRun& run) const {
    return plan_.settings[run.setting].label + ", seed " + std::to_string(run.seed);
  }

  void stop() {
    log_info(std::string(StopSignals::name(StopSignals::number())) + " received: the runs save and stop");
    stopping_ = signalled_ = true;
    for (auto& active : active_) active->child().send(SIGTERM);
  }

  void start_next() {
    const PlannedRun& run = *waiting_.front();
    waiting_.erase(waiting_.begin());
    const bool again = store_.record(run).state == RunState::kInterrupted;
    log_info((again ? "going on with " : "starting ") + described(run));
    active_.push_back(std::make_unique<ActiveRun>(run, store_));
  }

  void collect() {
    for (size_t i = 0; i < active_.size();) {
      const std::optional<int> exit_code = active_[i]->child().exit_code();
      if (!exit_code) {
        ++i;
        continue;
      }
      const std::unique_ptr<ActiveRun> ended = std::move(active_[i]);
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
      store_.note(ended->run(), ended->record(*exit_code));
      tell(*ended);
      after_run_();
    }
  }

  void tell(const ActiveRun& ended) {
    const RunRecord& record = store_.record(ended.run());
    const std::string name = described(ended.run());
    switch (record.state) {
      case RunState::kFinished: {
        const double left = expected_seconds(plan_, store_, static_cast<int64_t>(jobs_));
        log_info("finished " + name + " in " + as_duration(record.seconds) + "; " +
                 std::to_string(waiting_.size() + active_.size()) + " runs left" +
                 (left > 0 ? ", about " + as_duration(left) : ""));
        break;
      }
      case RunState::kFailed:
        log_error(name + " failed: " + record.error);
        break;
      case RunState::kInterrupted:
      case RunState::kNew:
        log_info("stopped " + name);
        stopping_ = true;  // someone wants the machine: no new runs, but those that go on may end
        break;
    }
  }

  // Once, when the first run is a tenth done: how long all of it will take.
  void estimate() {
    if (active_.empty() || !std::isnan(expected_seconds(plan_, store_, 1))) {
      estimated_ = !active_.empty();
      return;
    }
    const ActiveRun& first = *active_.front();
    const double share = first.share_done();
    if (share < 0.1) return;
    const double speed = share * first.run().flops / first.seconds();
    double flops = -share * first.run().flops;
    for (const auto& active : active_) flops += active->run().flops;
    for (const PlannedRun* run : waiting_) flops += run->flops;
    log_info("by the speed of the first run so far, all of it takes about " +
             as_duration(flops / speed / static_cast<double>(std::max(active_.size(), size_t{1}))));
    estimated_ = true;
  }

  void show_progress() {
    if (active_.empty() || seconds_since(shown_) < 1) return;
    shown_ = Clock::now();
    if (!estimated_) estimate();
    const size_t done = plan_.runs.size() - waiting_.size() - active_.size();
    const std::string where = "run " + std::to_string(done + 1) + "/" + std::to_string(plan_.runs.size()) + "  " +
                              described(active_.front()->run()) + "  ";
    line_.show((where + active_.front()->progress_line()).substr(0, 110));
  }

  const Plan& plan_;
  SweepStore& store_;
  size_t jobs_;
  const std::function<void()>& after_run_;
  std::vector<const PlannedRun*> waiting_;
  std::vector<std::unique_ptr<ActiveRun>> active_;
  ProgressLine line_;
  Clock::time_point shown_{};
  bool stopping_ = false;   // no new runs
  bool signalled_ = false;  // the children have been told to stop
  bool estimated_ = false;
};

}  // namespace

int64_t jobs_that_fit(const Plan& plan) {
  int64_t threads = 1;
  double memory = 1;
  for (const PlannedRun& run : plan.runs) {
    threads = std::max(threads, run.config.training.num_threads);
    memory = std::max(memory, run.memory);
  }
  const int64_t by_cores = std::max<int64_t>(1, allowed_cores() / threads);
  const auto by_memory = static_cast<int64_t>(std::min(1e6, kShareOfMemory * available_memory_bytes() / memory));
  return std::clamp<int64_t>(std::min(by_cores, by_memory), 1, static_cast<int64_t>(plan.runs.size()));
}

double expected_seconds(const Plan& plan, const SweepStore& store, int64_t jobs) {
  double flops_done = 0, seconds = 0, flops_left = 0;
  for (const PlannedRun& run : plan.runs) {
    const RunRecord& record = store.record(run);
    if (record.state == RunState::kFinished && record.seconds > 0) {
      flops_done += run.flops;
      seconds += record.seconds;
    } else if (record.state == RunState::kNew || record.state == RunState::kInterrupted) {
      flops_left += run.flops;
    }
  }
  if (flops_done == 0) return std::numeric_limits<double>::quiet_NaN();
  return flops_left / (flops_done / seconds) / static_cast<double>(jobs);
}

SweepOutcome run_sweep(const Plan& plan, SweepStore& store, int64_t jobs, const std::function<void()>& after_run) {
  return Runner(plan, store, jobs, after_run).run();
}

}  // namespace switchyard
