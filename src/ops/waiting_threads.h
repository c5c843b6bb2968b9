// How the threads of OpenMP, on which LibTorch's loops and our own run, wait for their next work.
//
// GNU OpenMP's spin for 3 to 15 ms before they sleep. On a machine that the process has for itself this is the fastest,
// since between two loops of a small model there are microseconds, and waking a thread takes some. But while another
// process has the core of one thread, the others use up their own cores' time for nothing, at every barrier.
#pragma once

#include <future>
#include <thread>

namespace switchyard {

// Whether the environment says how they wait: OMP_WAIT_POLICY or GOMP_SPINCOUNT is there.
bool environment_sets_waiting();

// From now on, until the process ends: while other processes keep this one's threads from running, those that wait
// sleep after some microseconds; else they spin. Looks ten times a second. Does nothing where the environment says how
// to wait, or the kernel doesn't say how long threads had no core (/proc/self/task/*/schedstat).
void share_cores();

// As long as one of these is there, threads spin for some microseconds only. GNU OpenMP reads its variables before
// main() begins; what it looks at all the time is whether it has more threads than there are cores, and then it spins a
// hundred times (libgomp's config/linux/wait.h and env.c, since GCC 4.4). So this is a team of one thread more than
// cores, all asleep. With another OpenMP it changes nothing else.
class SleepingTeam {
 public:
  SleepingTeam();
  ~SleepingTeam();
  SleepingTeam(const SleepingTeam&) = delete;
  SleepingTeam& operator=(const SleepingTeam&) = delete;

 private:
  void keep();

  std::promise<void> started_;
  std::promise<void> over_;
  std::thread keeper_;
};

// Whether waiting threads shall sleep: from the first moment that one had too little of a core, until all have had
// enough for a while.
class Crowding {
 public:
  // Another `seconds` have passed, in which no thread was ready to run but had no core for longer than `delay`.
  bool after(double seconds, double delay);

 private:
  bool crowded_ = false;
  double enough_for_ = 0;  // seconds
};

}  // namespace switchyard
