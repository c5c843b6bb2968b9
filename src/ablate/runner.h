// Runs a sweep: each run a child process of this program, some of them at once.
#pragma once

#include <cstdint>
#include <functional>

#include "ablate/plan.h"
#include "ablate/sweep_store.h"

namespace switchyard {

// How many runs fit on this machine at once: within its cores and the memory that is free, at most as many as there
// are.
int64_t jobs_that_fit(const Plan& plan);

// Seconds that the unfinished runs will take, by the speed of the runs so far (FLOPs a second); NaN before any was
// done.
double expected_seconds(const Plan& plan, const SweepStore& store, int64_t jobs);

enum class SweepOutcome {
  kDone,
  kSomeFailed,
  kStopped,  // by a signal, or because a run was; calling again goes on
};

// Starts or resumes every run that is not finished and has not failed, `jobs` at a time, and calls `after_run` when one
// has ended. A signal (SIGTERM, SIGINT, SIGUSR1) is passed on to the children, which save and stop. Throws Error when a
// run cannot be started.
SweepOutcome run_sweep(const Plan& plan, SweepStore& store, int64_t jobs, const std::function<void()>& after_run);

}  // namespace switchyard
