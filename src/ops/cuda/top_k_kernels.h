// The router's choice: softmax, the k largest, how often each expert was chosen; one warp a token, in one pass.
// Legend: T tokens, E experts, K choices of a token.
#pragma once

#include <cmath>

#include "ops/cuda/warp.h"

namespace switchyard::cuda {

// A lane remembers what was taken of its experts in the bits of one word.
inline constexpr int64_t kMostExperts = 64 * kLanes;

template <class A>
struct Candidate {
  A score;
  int64_t index;  // -1: none
};

// The larger score, then the lower index; NaN after everything else.
template <class A>
SWITCHYARD_HD bool is_before(const Candidate<A>& a, const Candidate<A>& b) {
  if (a.index < 0 || b.index < 0) return b.index < 0 && a.index >= 0;
  const bool a_is_nan = a.score != a.score;
  const bool b_is_nan = b.score != b.score;
  if (a_is_nan != b_is_nan) return b_is_nan;
  if (!a_is_nan && a.score != b.score) return a.score > b.score;
  return a.index < b.index;
}

#ifdef __CUDACC__
template <class A>
__device__ Candidate<A> from_lane_xor(const Candidate<A>& candidate, int offset) {
  return {from_lane_xor(candidate.score, offset), from_lane_xor(candidate.index, offset)};
}
#endif

// Adds one. Integers: the order in which tokens do can't change the sum.
SWITCHYARD_HD inline void count_one(int64_t* counter) {
#ifdef __CUDA_ARCH__
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), 1ULL);
#else
  ++*counter;
#endif
}

// Runs over T tokens. E at most kMostExperts, K at most E.
template <class A>
struct SoftmaxTopK {
  const A* scores;   // [T, E]
  A* probabilities;  // [T, E] softmax of the scores, or null
  int64_t* chosen;   // [T, K] largest score first; ties go to the lower index, NaN counts as smallest
  int64_t* counts;   // [E] gets one more for every choice, or null
  int64_t num_experts;
  int64_t top_k;

  template <class Warp>
  SWITCHYARD_HD void operator()(const Warp& warp, int64_t token) const {
    if (probabilities != nullptr) softmax(warp, token);
    const A* own = scores + token * num_experts;
    uint64_t taken[Warp::kHeld];
    warp.each([&](int, int held) { taken[held] = 0; });
    for (int64_t k = 0; k < top_k; ++k) {
      Candidate<A> best[Warp::kHeld];
      warp.each([&](int lane, int held) {
        best[held] = {A(0), -1};
        for (int64_t expert = lane; expert < num_experts; expert += kLanes) {
          const Candidate<A> candidate = {own[expert], expert};
          if ((taken[held] >> (expert / kLanes) & 1) == 0 && is_before(candidate, best[held])) best[held] = candidate;
        }
      });
      const int64_t winner =
          warp.reduce(best, [](const Candidate<A>& a, const Candidate<A>& b) { return is_before(b, a) ? b : a; }).index;
      warp.each([&](int lane, int held) {
        if (winner % kLanes != lane) return;
        taken[held] |= uint64_t{1} << (winner / kLanes);
        chosen[token * top_k + k] = winner;
        if (counts != nullptr) count_one(counts + winner);
      });
    }
  }

 private:
  template <class Warp>
  SWITCHYARD_HD void softmax(const Warp& warp, int64_t token) const {
    const A* in = scores + token * num_experts;
    A* out = probabilities + token * num_experts;
    A most[Warp::kHeld];
    warp.each([&](int lane, int held) {
      most[held] = -INFINITY;
      for (int64_t i = lane; i < num_experts; i += kLanes) most[held] = in[i] > most[held] ? in[i] : most[held];
    });
    const A largest = warp.reduce(most, [](A a, A b) { return a > b ? a : b; });
    A sums[Warp::kHeld];
    warp.each([&](int lane, int held) {
      sums[held] = 0;
      for (int64_t i = lane; i < num_experts; i += kLanes) {
        out[i] = std::exp(in[i] - largest);
        sums[held] += out[i];
      }
    });
    const A sum = warp.reduce(sums, [](A a, A b) { return a + b; });
    warp.each([&](int lane, int) {
      for (int64_t i = lane; i < num_experts; i += kLanes) out[i] /= sum;
    });
  }
};

}  // namespace switchyard::cuda
