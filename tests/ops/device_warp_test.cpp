// The kernels of src/ops/cuda as a GPU runs them, with a thread for every lane and CUDA's exchanges between them made
// of barriers, against the same kernels as loops. Both must give the same bits.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 32;
std::barrier<> step(kThreads);
std::array<uint64_t, kThreads> posted;
thread_local int own_lane = 0;

// The value of lane `from`, where all lanes give theirs.
template <class V>
V exchange(V value, int from) {
  static_assert(sizeof(V) <= sizeof(uint64_t));
  std::memcpy(&posted[static_cast<size_t>(own_lane)], &value, sizeof(V));
  step.arrive_and_wait();
  std::memcpy(&value, &posted[static_cast<size_t>(from)], sizeof(V));
  step.arrive_and_wait();
  return value;
}

template <class V>
V __shfl_xor_sync(unsigned, V value, int offset) {
  return exchange(value, own_lane ^ offset);
}
template <class V>
V __shfl_up_sync(unsigned, V value, int offset) {
  return exchange(value, own_lane < offset ? own_lane : own_lane - offset);
}
template <class V>
V __shfl_sync(unsigned, V value, int from) {
  return exchange(value, from);
}
void atomicAdd(unsigned long long* target, unsigned long long value) {
  std::atomic_ref<unsigned long long>(*target).fetch_add(value);
}

}  // namespace

// The headers as nvcc's pass for the device sees them, under another name than the one that the rest of this program
// has for them.
#define __CUDACC__
#define __CUDA_ARCH__ 900
#define __host__
#define __device__
#define cuda cuda_on_threads
#include "ops/cuda/order_kernels.h"
#include "ops/cuda/row_kernels.h"
#include "ops/cuda/top_k_kernels.h"

namespace switchyard::cuda {
namespace {

using kernels::Bf16;

template <class F>
void run(bool on_threads, int64_t count, const F& f) {
  if (!on_threads) {
    for (int64_t i = 0; i < count; ++i) f(HostWarp{}, i);
    return;
  }
  std::vector<std::jthread> lanes;
  for (int lane = 0; lane < kThreads; ++lane) {
    lanes.emplace_back([&f, count, lane] {
      own_lane = lane;
      for (int64_t i = 0; i < count; ++i) f(DeviceWarp{lane}, i);
    });
  }
}

// Values between -2 and 2, no two sums of which round alike.
template <class T>
std::vector<T> values(int64_t count, uint64_t seed) {
  std::vector<T> all(static_cast<size_t>(count));
  for (T& value : all) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    kernels::store(&value, static_cast<kernels::Acc<T>>(static_cast<double>(seed >> 11) / double(1ULL << 51) - 2));
  }
  return all;
}

template <class T>
bool same_bits(const std::array<std::vector<T>, 2>& x) {
  if (x[0].size() != x[1].size()) return false;
  return x[0].empty() || std::memcmp(x[0].data(), x[1].data(), x[0].size() * sizeof(T)) == 0;
}

TEST(DeviceWarp, Scan) {
  for (const int64_t count : {0, 1, 31, 32, 33, 100}) {
    constexpr int64_t kColumns = 3;
    std::array<std::vector<int64_t>, 2> entries;
    std::array<std::vector<int64_t>, 2> totals;
    for (const size_t side : {0, 1}) {
      for (int64_t i = 0; i < count * kColumns; ++i) entries[side].push_back(i * i % 11);
      totals[side].resize(kColumns);
      run(side == 1, kColumns, ScanColumns{entries[side].data(), totals[side].data(), count, kColumns});
    }
    EXPECT_TRUE(same_bits(entries)) << count;
    EXPECT_TRUE(same_bits(totals)) << count;
  }
}

template <class A>
void expect_same_choice(std::vector<A> scores, int64_t experts, int64_t top_k) {
  const auto tokens = static_cast<int64_t>(scores.size()) / experts;
  std::array<std::vector<A>, 2> probabilities;
  std::array<std::vector<int64_t>, 2> chosen;
  std::array<std::vector<int64_t>, 2> counts;
  for (const size_t side : {0, 1}) {
    probabilities[side].resize(scores.size());
    chosen[side].resize(static_cast<size_t>(tokens * top_k));
    counts[side].resize(static_cast<size_t>(experts));
    run(side == 1, tokens,
        SoftmaxTopK<A>{scores.data(), probabilities[side].data(), chosen[side].data(), counts[side].data(), experts,
                       top_k});
  }
  EXPECT_TRUE(same_bits(probabilities)) << experts;
  EXPECT_TRUE(same_bits(chosen)) << experts;
  EXPECT_TRUE(same_bits(counts)) << experts;
}

TEST(DeviceWarp, SoftmaxAndTopK) {
  for (const int64_t experts : {3, 32, 70}) {
    expect_same_choice(values<float>(4 * experts, 1), experts, 3);
    expect_same_choice(values<double>(4 * experts, 2), experts, 3);
    expect_same_choice(std::vector<float>(static_cast<size_t>(2 * experts), 1.0F), experts, 3);  // all tie
  }
}

template <class T, int kPack>
void expect_same_rows(int64_t dim) {
  using A = kernels::Acc<T>;
  constexpr int64_t kTokens = 3, kTopK = 2, kRows = 6;
  const std::vector<int64_t> choice_of_row = {3, 0, 5, 1, -1, 4};
  const std::vector<int64_t> row_of_choice = {1, 3, -1, 0, 5, 2};
  const std::vector<T> x = values<T>(kTokens * dim, 1), in = values<T>(kRows * dim, 2),
                       dy = values<T>(kTokens * dim, 3);
  const std::vector<A> weights = values<A>(kTokens * kTopK, 4);
  std::array<std::vector<T>, 2> gathered;
  std::array<std::vector<T>, 2> sums;
  std::array<std::vector<T>, 2> d_rows;
  std::array<std::vector<A>, 2> d_weights;
  for (const size_t side : {0, 1}) {
    gathered[side].resize(static_cast<size_t>(kRows * dim));
    sums[side].resize(static_cast<size_t>(kTokens * dim));
    d_rows[side].resize(static_cast<size_t>(kRows * dim));
    d_weights[side].resize(kTokens * kTopK);
    run(side == 1, kRows, GatherRows<T>{x.data(), choice_of_row.data(), gathered[side].data(), kTopK, dim});
    run(side == 1, kTokens,
        SumRows<T, kPack>{in.data(), row_of_choice.data(), weights.data(), sums[side].data(), kTopK, dim});
    run(side == 1, kRows,
        SumRowsBackward<T, kPack>{in.data(), choice_of_row.data(), weights.data(), dy.data(), d_rows[side].data(),
                                  d_weights[side].data(), kTopK, dim});
  }
  EXPECT_TRUE(same_bits(gathered)) << dim;
  EXPECT_TRUE(same_bits(sums)) << dim;
  EXPECT_TRUE(same_bits(d_rows)) << dim;
  EXPECT_TRUE(same_bits(d_weights)) << dim;
}

TEST(DeviceWarp, Rows) {
  for (const int64_t dim : {1, 31, 100}) {
    expect_same_rows<float, 1>(dim);
    expect_same_rows<double, 1>(dim);
    expect_same_rows<Bf16, 1>(dim);
  }
  for (const int64_t dim : {8, 264, 520}) {
    expect_same_rows<float, 4>(dim);
    expect_same_rows<double, 2>(dim);
    expect_same_rows<Bf16, 8>(dim);
  }
}

}  // namespace
}  // namespace switchyard::cuda
