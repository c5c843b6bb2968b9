// A loop over threads. Private to data/.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/system.h"

namespace switchyard {

// Calls body(i) once for every i in [0, count), on `num_threads` threads (0: OMP_NUM_THREADS, or one per core that may
// be used); returns when all are done. Rethrows the first error; what has not begun by then is left out.
template <typename Body>
void parallel_for(size_t count, int64_t num_threads, const Body& body) {
  const int64_t otherwise = threads_of_environment().value_or(allowed_cores());
  const auto wanted = static_cast<size_t>(num_threads > 0 ? num_threads : otherwise);
  std::atomic<size_t> next = 0;
  std::exception_ptr error;
  std::mutex error_mutex;
  const auto work = [&] {
    try {
      for (size_t i = next++; i < count; i = next++) body(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  };
  std::vector<std::jthread> threads;
  for (size_t i = 1; i < std::min(wanted, count); ++i) threads.emplace_back(work);
  work();
  threads.clear();  // joins
  if (error) std::rethrow_exception(error);
}

}  // namespace switchyard
