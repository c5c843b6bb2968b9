#include "ops/waiting_threads.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{100};
// A thread beside a busy process waits half of the time; on a machine without one, a few hundredths at most.
constexpr double kTooLong = 0.15;
// Spinning again too early costs more than sleeping for some steps more.
constexpr double kEnough = 2;

// A signal shall meet a thread that has something to do: one of these would not interrupt what it is meant to.
void block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// Thread -> seconds that it has been ready to run and had no core.
using Delays = std::map<std::string, double>;

Delays delays_so_far() {
  Delays delays;
  std::error_code gone;
  for (const auto& thread : fs::directory_iterator("/proc/self/task", gone)) {
    double on_core = 0, delay = 0;
    // A thread may have ended by now.
    if (std::ifstream(thread.path() / "schedstat") >> on_core >> delay) delays[thread.path().filename()] = delay * 1e-9;
  }
  return delays;
}

double longest(const Delays& before, const Delays& after) {
  double delay = 0;
  for (const auto& [thread, seconds] : after) {
    if (const auto old = before.find(thread); old != before.end()) delay = std::max(delay, seconds - old->second);
  }
  return delay;
}

[[noreturn]] void watch(Delays before) {
  block_signals();
  Crowding crowding;
  std::optional<SleepingTeam> team;
  for (auto since = Clock::now();;) {
    std::this_thread::sleep_for(kLook);
    Delays delays = delays_so_far();
    const auto now = Clock::now();
    const bool sleep = crowding.after(std::chrono::duration<double>(now - since).count(), longest(before, delays));
    if (sleep && !team) team.emplace();
    if (!sleep) team.reset();
    before = std::move(delays);
    since = now;
  }
}

}  // namespace

bool environment_sets_waiting() {
  return std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr;
}

void share_cores() {
  static std::once_flag once;
  if (environment_sets_waiting()) return;
  std::call_once(once, [] {
    Delays delays = delays_so_far();
    if (!delays.empty()) std::thread(watch, std::move(delays)).detach();
  });
}

SleepingTeam::SleepingTeam() : keeper_([this] { keep(); }) { started_.get_future().wait(); }

SleepingTeam::~SleepingTeam() {
  over_.set_value();
  keeper_.join();
}

// A team stays as long as the thread that started it does. GNU OpenMP counts all its threads but that one, so that
// alone they are as many as the cores, and every other thread is one more.
void SleepingTeam::keep() {
  block_signals();
  std::atomic<int> count = 0;  // the compiler drops a region that does nothing
#pragma omp parallel num_threads(omp_get_num_procs() + 1)
  count.fetch_add(1);
  started_.set_value();
  over_.get_future().wait();
}

bool Crowding::after(double seconds, double delay) {
  if (delay > kTooLong * seconds) {
    crowded_ = true;
    enough_for_ = 0;
  } else if (crowded_) {
    enough_for_ += seconds;
    crowded_ = enough_for_ < kEnough;
  }
  return crowded_;
}

}  // namespace switchyard
