// The kernels of src/ops/cuda on a GPU against the same kernels as loops on the host: a program that needs the CUDA
// Toolkit and no LibTorch (scripts/check_cuda_kernels.sh). Values are small whole numbers, of which every sum is exact:
// all results must be equal. Exit code 77: there is no GPU.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "ops/cuda/launch.h"
#include "ops/cuda/order_kernels.h"
#include "ops/cuda/row_kernels.h"
#include "ops/cuda/top_k_kernels.h"

namespace switchyard::cuda {
namespace {

using kernels::Bf16;

constexpr int64_t kTokens = 3000, kTopK = 3, kExperts = 37, kChoices = kTokens * kTopK;

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "check_cuda_kernels: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Memory that both sides read and write, like a tensor of either.
template <class T>
class Array {
 public:
  explicit Array(int64_t count) : count_(static_cast<size_t>(count)) {
    require(cudaMallocManaged(&data_, count_ * sizeof(T)));
    std::memset(static_cast<void*>(data_), 0, count_ * sizeof(T));
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cudaFree(data_); }
  T* get() const { return data_; }
  bool operator==(const Array& other) const { return std::memcmp(data_, other.data_, count_ * sizeof(T)) == 0; }

 private:
  size_t count_;
  T* data_ = nullptr;
};

// Whole numbers from -4 to 4, from a linear congruence.
template <class T>
void fill(T* values, int64_t count, uint64_t seed) {
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    kernels::store(values + i, static_cast<Acc<T>>(static_cast<int64_t>(seed >> 33) % 9 - 4));
  }
}

void finish(const char* error) {
  if (error != nullptr) {
    std::fprintf(stderr, "check_cuda_kernels: %s\n", error);
    std::exit(1);
  }
  require(cudaDeviceSynchronize());
}

template <class F>
void warps(bool on_device, int64_t count, const F& f) {
  if (on_device) return finish(launch_warps(f, count, nullptr));
  for (int64_t i = 0; i < count; ++i) f(HostWarp{}, i);
}
template <class F>
void threads(bool on_device, int64_t count, const F& f) {
  if (on_device) return finish(launch_threads(f, count, nullptr));
  for (int64_t i = 0; i < count; ++i) f(i);
}

int wrong = 0;
void expect(bool equal, const char* what) {
  if (equal) return;
  std::fprintf(stderr, "check_cuda_kernels: %s: the device's result is not the host's\n", what);
  ++wrong;
}

struct Order {
  Array<int64_t> row_of_choice{kChoices}, choice_of_row{kChoices}, begins{kExperts + 1};
};

void make_order(bool on_device, const Choices& choices, Order& order) {
  const int64_t buckets = choices.num_buckets(), places = choices.num_tiles() * buckets;
  const Array<int64_t> counts(places), total(1);
  threads(on_device, places, CountTiles{choices, counts.get()});
  warps(on_device, buckets, ScanColumns{counts.get(), order.begins.get(), choices.num_tiles(), buckets});
  warps(on_device, 1, ScanColumns{order.begins.get(), total.get(), buckets, 1});
  threads(
      on_device, places,
      PlaceChoices{choices, counts.get(), order.begins.get(), order.row_of_choice.get(), order.choice_of_row.get()});
}

// T, elements at once, and a row's length that is a multiple of them.
template <class T, int kPack>
void check_rows(const Order& order, int64_t dim, const char* what) {
  const Array<T> x(kTokens * dim), dy(kTokens * dim);
  const Array<Acc<T>> weights(kChoices);
  fill(x.get(), kTokens * dim, 1);
  fill(dy.get(), kTokens * dim, 2);
  fill(weights.get(), kChoices, 3);
  const Array<T> rows[2] = {Array<T>(kChoices * dim), Array<T>(kChoices * dim)};
  const Array<T> sums[2] = {Array<T>(kTokens * dim), Array<T>(kTokens * dim)};
  const Array<T> d_rows[2] = {Array<T>(kChoices * dim), Array<T>(kChoices * dim)};
  const Array<Acc<T>> d_weights[2] = {Array<Acc<T>>(kChoices), Array<Acc<T>>(kChoices)};
  for (const int side : {0, 1}) {
    const int64_t* choice_of_row = order.choice_of_row.get();
    if constexpr (kPack > 1) {
      const auto chunks = static_cast<int64_t>(dim * sizeof(T) / sizeof(Chunk));
      warps(side == 1, kChoices,
            GatherRows<Chunk>{reinterpret_cast<const Chunk*>(x.get()), choice_of_row,
                              reinterpret_cast<Chunk*>(rows[side].get()), kTopK, chunks});
    } else {
      using Unit = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
      warps(side == 1, kChoices,
            GatherRows<Unit>{reinterpret_cast<const Unit*>(x.get()), choice_of_row,
                             reinterpret_cast<Unit*>(rows[side].get()), kTopK, dim});
    }
    warps(side == 1, kTokens,
          SumRows<T, kPack>{rows[side].get(), order.row_of_choice.get(), weights.get(), sums[side].get(), kTopK, dim});
    warps(side == 1, kChoices,
          SumRowsBackward<T, kPack>{rows[side].get(), choice_of_row, weights.get(), dy.get(), d_rows[side].get(),
                                    d_weights[side].get(), kTopK, dim});
  }
  expect(rows[0] == rows[1], what);
  expect(sums[0] == sums[1], what);
  expect(d_rows[0] == d_rows[1], what);
  expect(d_weights[0] == d_weights[1], what);
}

// Of which the softmax is not exact, and is not compared: tests/ops/cuda_kernels_test.cpp does.
template <class A>
void check_top_k(const char* what) {
  const Array<A> scores(kTokens * kExperts), probabilities(kTokens * kExperts);
  fill(scores.get(), kTokens * kExperts, 4);
  const Array<int64_t> chosen[2] = {Array<int64_t>(kChoices), Array<int64_t>(kChoices)};
  const Array<int64_t> counts[2] = {Array<int64_t>(kExperts), Array<int64_t>(kExperts)};
  for (const int side : {0, 1}) {
    warps(side == 1, kTokens,
          SoftmaxTopK<A>{scores.get(), probabilities.get(), chosen[side].get(), counts[side].get(), kExperts, kTopK});
  }
  expect(chosen[0] == chosen[1], what);
  expect(counts[0] == counts[1], what);
}

int check_all() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("check_cuda_kernels: skipped: there is no GPU; the kernels compile and link");
    return 77;
  }
  const Array<int64_t> ids(kChoices);
  const Array<bool> kept(kChoices);
  uint64_t seed = 5;
  for (int64_t i = 0; i < kChoices; ++i) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    ids.get()[i] = static_cast<int64_t>(seed >> 33) % kExperts;
    kept.get()[i] = (seed >> 40) % 4 != 0;
  }
  Order order[2];
  for (const int side : {0, 1}) make_order(side == 1, {ids.get(), kept.get(), kChoices, kExperts}, order[side]);
  expect(order[0].row_of_choice == order[1].row_of_choice && order[0].choice_of_row == order[1].choice_of_row &&
             order[0].begins == order[1].begins,
         "order by expert");
  check_rows<float, 1>(order[0], 7, "rows of float32");
  check_rows<float, 4>(order[0], 260, "rows of float32, by 16 bytes");
  check_rows<double, 1>(order[0], 7, "rows of float64");
  check_rows<double, 2>(order[0], 130, "rows of float64, by 16 bytes");
  check_rows<Bf16, 1>(order[0], 7, "rows of bfloat16");
  check_rows<Bf16, 8>(order[0], 520, "rows of bfloat16, by 16 bytes");
  check_top_k<float>("top-k of float32");
  check_top_k<double>("top-k of float64");
  if (wrong == 0) std::puts("check_cuda_kernels: the kernels give on this GPU what they give on the host");
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda

int main() { return switchyard::cuda::check_all(); }
