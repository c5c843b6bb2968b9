// Bytes of tensors on the CPU, counted where they are allocated and freed.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace switchyard::test {

// Takes the place of the allocator of CPU tensors, for good, and counts what any thread allocates and frees from then
// on. Exact, unlike the resident set: no freed pages that the system has kept, no buffers of libraries.
class AllocationMeter final : public c10::Allocator {
 public:
  static AllocationMeter& installed() {
    static AllocationMeter& meter = install();
    return meter;
  }

  c10::DataPtr allocate(size_t bytes) override {
    void* place = c10::alloc_cpu(bytes);
    const std::lock_guard lock(mutex_);
    sizes_[place] = static_cast<int64_t>(bytes);
    live_ += static_cast<int64_t>(bytes);
    peak_ = std::max(peak_, live_);
    return {place, place, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  int64_t live() {
    const std::lock_guard lock(mutex_);
    return live_;
  }
  int64_t peak() {
    const std::lock_guard lock(mutex_);
    return peak_;
  }
  void restart_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = live_;
  }

 private:
  static AllocationMeter& install() {
    static auto* const meter = new AllocationMeter;  // tensors may outlive everything
    c10::SetCPUAllocator(meter);
    return *meter;
  }
  static void release(void* place) {
    AllocationMeter& meter = installed();
    {
      const std::lock_guard lock(meter.mutex_);
      const auto found = meter.sizes_.find(place);
      if (found != meter.sizes_.end()) {
        meter.live_ -= found->second;
        meter.sizes_.erase(found);
      }
    }
    c10::free_cpu(place);
  }

  std::mutex mutex_;
  std::unordered_map<void*, int64_t> sizes_;
  int64_t live_ = 0;
  int64_t peak_ = 0;
};

}  // namespace switchyard::test
