// A warp: 32 lanes in step. Kernels are written over it once; on a device each lane is a thread, on the host they are a
// loop, in which the same sums are taken in the same order. That is how the kernels' logic is tested without a GPU.
#pragma once

#include <cstdint>

#include "ops/kernels/host_device.h"

namespace switchyard::cuda {

inline constexpr int kLanes = 32;

// What both kinds of warp have:
//   kHeld                  how many lanes' values this thread holds; a value per lane is an array of that length
//   each(f)                f(lane, its place in such arrays) for the lanes of this thread
//   reduce(values, op)     op over the values of all lanes, as a tree; op must be commutative. All lanes get the result
//   exclusive_sum(values)  each value becomes the sum of those of the lanes before it; returns the sum of all
struct HostWarp {
  static constexpr int kHeld = kLanes;

  template <class F>
  void each(F&& f) const {
    for (int lane = 0; lane < kLanes; ++lane) f(lane, lane);
  }

  template <class V, class Op>
  V reduce(const V (&values)[kHeld], const Op& op) const {
    V now[kHeld];
    for (int lane = 0; lane < kLanes; ++lane) now[lane] = values[lane];
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      V before[kHeld];
      for (int lane = 0; lane < kLanes; ++lane) before[lane] = now[lane];
      for (int lane = 0; lane < kLanes; ++lane) now[lane] = op(before[lane], before[lane ^ offset]);
    }
    return now[0];
  }

  template <class V>
  V exclusive_sum(V (&values)[kHeld]) const {
    V sum = 0;
    for (V& value : values) {
      const V own = value;
      value = sum;
      sum += own;
    }
    return sum;
  }
};

#ifdef __CUDACC__

// A struct that is exchanged between lanes has an overload of this beside it.
template <class V>
__device__ V from_lane_xor(V value, int offset) {
  return __shfl_xor_sync(0xffffffffU, value, offset);
}

// Marked for the host only so that the kernels, which are, may call it.
struct DeviceWarp {
  static constexpr int kHeld = 1;
  int lane;

  template <class F>
  SWITCHYARD_HD void each(F&& f) const {
    f(lane, 0);
  }

  template <class V, class Op>
  SWITCHYARD_HD V reduce(const V (&values)[kHeld], const Op& op) const {
    V now = values[0];
#ifdef __CUDA_ARCH__
    for (int offset = kLanes / 2; offset > 0; offset /= 2) now = op(now, from_lane_xor(now, offset));
#endif
    return now;
  }

  template <class V>
  SWITCHYARD_HD V exclusive_sum(V (&values)[kHeld]) const {
    V sum = values[0];
#ifdef __CUDA_ARCH__
    const V own = sum;
    for (int offset = 1; offset < kLanes; offset *= 2) {
      const V below = __shfl_up_sync(0xffffffffU, sum, offset);
      if (lane >= offset) sum += below;
    }
    values[0] = sum - own;
    sum = __shfl_sync(0xffffffffU, sum, kLanes - 1);
#endif
    return sum;
  }
};

#endif

}  // namespace switchyard::cuda
