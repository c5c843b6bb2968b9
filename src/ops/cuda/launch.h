// Starts kernels on a device. Raw pointers only: launch.cu needs the CUDA Toolkit and nothing else.
#pragma once

#include <cstdint>

namespace switchyard::cuda {

// Runs f(warp, i), or f(i) a thread, for i in [0, count) on `stream` (a cudaStream_t), and doesn't wait for it. Returns
// null, or why it could not be started. launch.cu has them for the kernels of this folder.
#ifdef SWITCHYARD_CUDA
template <class F>
const char* launch_warps(const F& f, int64_t count, void* stream);
template <class F>
const char* launch_threads(const F& f, int64_t count, void* stream);
#else
template <class F>
const char* launch_warps(const F&, int64_t, void*) {
  return "this program was built without CUDA";
}
template <class F>
const char* launch_threads(const F&, int64_t, void*) {
  return "this program was built without CUDA";
}
#endif

}  // namespace switchyard::cuda
