// The kernels of this folder for the device.
#undef NDEBUG  // what the kernels assert of their input is checked in every build

#include <cuda_runtime.h>

#include "ops/cuda/launch.h"
#include "ops/cuda/order_kernels.h"
#include "ops/cuda/row_kernels.h"
#include "ops/cuda/top_k_kernels.h"

namespace switchyard::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kLanes;
constexpr int64_t kMostBlocks = 0x7fffffff;

// A whole warp leaves or stays: lanes that exchange values are all there.
template <class F>
__global__ void __launch_bounds__(kThreads) run_warps(F f, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.y;
  if (i < count) f(DeviceWarp{static_cast<int>(threadIdx.x)}, i);
}

template <class F>
__global__ void __launch_bounds__(kThreads) run_threads(F f, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) f(i);
}

// Calls start(number of blocks).
template <class Start>
const char* start(int64_t count, int64_t per_block, const Start& start) {
  if (count <= 0) return nullptr;
  const int64_t blocks = (count + per_block - 1) / per_block;
  if (blocks > kMostBlocks) return "more rows than a device's grid has places for";
  start(static_cast<unsigned>(blocks));
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace

template <class F>
const char* launch_warps(const F& f, int64_t count, void* stream) {
  return start(count, kWarps, [&](unsigned blocks) {
    run_warps<<<blocks, dim3(kLanes, kWarps), 0, static_cast<cudaStream_t>(stream)>>>(f, count);
  });
}

template <class F>
const char* launch_threads(const F& f, int64_t count, void* stream) {
  return start(count, kThreads, [&](unsigned blocks) {
    run_threads<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(f, count);
  });
}

#define SWITCHYARD_WARPS(...) template const char* launch_warps(const __VA_ARGS__&, int64_t, void*);
#define SWITCHYARD_ROWS(type, pack)     \
  SWITCHYARD_WARPS(SumRows<type, pack>) \
  SWITCHYARD_WARPS(SumRowsBackward<type, pack>)

SWITCHYARD_WARPS(GatherRows<Chunk>)
SWITCHYARD_WARPS(GatherRows<uint16_t>)
SWITCHYARD_WARPS(GatherRows<uint32_t>)
SWITCHYARD_WARPS(GatherRows<uint64_t>)
SWITCHYARD_ROWS(float, 1)
SWITCHYARD_ROWS(float, 4)
SWITCHYARD_ROWS(double, 1)
SWITCHYARD_ROWS(double, 2)
SWITCHYARD_ROWS(kernels::Bf16, 1)
SWITCHYARD_ROWS(kernels::Bf16, 8)
SWITCHYARD_WARPS(ScanColumns)
SWITCHYARD_WARPS(SoftmaxTopK<float>)
SWITCHYARD_WARPS(SoftmaxTopK<double>)
template const char* launch_threads(const CountTiles&, int64_t, void*);
template const char* launch_threads(const PlaceChoices&, int64_t, void*);

}  // namespace switchyard::cuda
