#include "ops/waiting_threads.h"

#include <omp.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>

namespace switchyard {
namespace {

// A signal shall meet a thread that has something to do: one of these would not interrupt what it is meant to.
void block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// A team stays as long as the thread that started it does. Counted are all its threads but that one, so that alone
// they are as many as the cores, and every other thread is one more.
void keep_team(std::promise<void>& started) {
  block_signals();
  std::atomic<int> count = 0;  // the compiler drops a region that does nothing
#pragma omp parallel num_threads(omp_get_num_procs() + 1)
  count.fetch_add(1);
  started.set_value();
  for (;;) ::pause();
}

}  // namespace

bool environment_sets_waiting() {
  return std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr;
}

void let_waiting_threads_sleep() {
  static std::once_flag once;
  if (environment_sets_waiting()) return;
  std::call_once(once, [] {
    std::promise<void> started;
    std::future<void> team = started.get_future();
    std::thread([started = std::move(started)]() mutable { keep_team(started); }).detach();
    team.wait();
  });
}

}  // namespace switchyard
