// Bytes of tensors on the CPU, counted where they are allocated and freed.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace switchyard::test {

// Counts what this thread (and the backward passes that it starts) allocates while the meter lives. Exact, unlike the
// resident set: no freed pages that the system has kept, no buffers of libraries.
class AllocationMeter {
 public:
  AllocationMeter() : counter_(std::make_shared<Counter>()), guard_(c10::DebugInfoKind::PROFILER_STATE, counter_) {}

  int64_t live() const { return counter_->live; }
  int64_t peak() const { return counter_->peak; }
  void restart_peak() { counter_->peak = counter_->live; }

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void* place, int64_t bytes, size_t, size_t, c10::Device) override {
      // A block that another thread freed is known to be gone when its place is given out again.
      const auto [entry, is_new] = sizes.emplace(place, 0);
      live -= entry->second;
      if (bytes > 0) {
        entry->second = bytes;
        live += bytes;
      } else {
        sizes.erase(entry);
      }
      peak = std::max(peak, live);
    }
    bool memoryProfilingEnabled() const override { return true; }

    std::unordered_map<void*, int64_t> sizes;
    int64_t live = 0;
    int64_t peak = 0;
  };

  std::shared_ptr<Counter> counter_;
  c10::DebugInfoGuard guard_;
};

}  // namespace switchyard::test
