// How the threads of OpenMP, on which LibTorch's and our own loops run, wait for their next work.
#pragma once

namespace switchyard {

// Whether the environment says it (OMP_WAIT_POLICY or GOMP_SPINCOUNT is there).
bool environment_sets_waiting();

// Lets them spin for some microseconds and then sleep, for the rest of the process; does nothing where the environment
// says how to wait. They spin for 3 to 15 ms otherwise, and so long as another process has the core of one thread, the
// others use up their own cores' time for nothing, at every barrier.
//
// GNU OpenMP reads its variables before main() begins. What it looks at all the time is whether it has more threads
// than there are cores, and then it spins for short (libgomp's config/linux/wait.h, since GCC 4.4). So this starts a
// team of one thread more than cores, which sleeps until the process ends. With another OpenMP it changes nothing else.
void let_waiting_threads_sleep();

}  // namespace switchyard
