// Rows between tokens and experts: one warp a row, or a token. Every index is 64-bit.
// Legend: T tokens, D elements of a row, K choices of a token, N rows. T_: element type, kPack: how many of them a lane
// moves at once; rows and their length must then be multiples of sizeof(T_) * kPack bytes.
#pragma once

#include "ops/cuda/warp.h"
#include "ops/kernels/scalars_impl.h"

namespace switchyard::cuda {

using kernels::Acc;

template <class T, int kPack>
struct alignas(sizeof(T) * kPack) Pack {
  T values[kPack];
};

// 16 bytes, which one load or store moves.
struct alignas(16) Chunk {
  uint32_t words[4];
};

// rows[n] = x[choice_of_row[n] / K], zero where that is -1. A row has `width` units. Runs over N rows.
template <class Unit>
struct GatherRows {
  const Unit* x;                 // [T, width]
  const int64_t* choice_of_row;  // [N]
  Unit* rows;                    // [N, width]
  int64_t top_k;
  int64_t width;

  template <class Warp>
  SWITCHYARD_HD void operator()(const Warp& warp, int64_t row) const {
    const int64_t choice = choice_of_row[row];
    const Unit* from = choice < 0 ? nullptr : x + choice / top_k * width;
    Unit* to = rows + row * width;
    warp.each([&](int lane, int) {
      for (int64_t i = lane; i < width; i += kLanes) to[i] = from == nullptr ? Unit{} : from[i];
    });
  }
};

// out[t] = sum over k of weights[t, k] * rows[row_of_choice[t, k]], choice 0 first; -1 is skipped; weights null: all
// one. Runs over T tokens.
template <class T, int kPack>
struct SumRows {
  const T* rows;                 // [N, D]
  const int64_t* row_of_choice;  // [T, K]
  const Acc<T>* weights;         // [T, K]
  T* out;                        // [T, D]
  int64_t top_k;
  int64_t dim;

  template <class Warp>
  SWITCHYARD_HD void operator()(const Warp& warp, int64_t token) const {
    warp.each([&](int lane, int) {
      for (int64_t column = int64_t{kPack} * lane; column < dim; column += kPack * kLanes) sum(token, column);
    });
  }

 private:
  SWITCHYARD_HD void sum(int64_t token, int64_t column) const {
    Acc<T> sums[kPack] = {};
    for (int64_t choice = token * top_k; choice < (token + 1) * top_k; ++choice) {
      const int64_t row = row_of_choice[choice];
      if (row < 0) continue;
      const Acc<T> weight = weights == nullptr ? Acc<T>(1) : weights[choice];
      const auto pack = *reinterpret_cast<const Pack<T, kPack>*>(rows + row * dim + column);
      for (int i = 0; i < kPack; ++i) sums[i] += weight * kernels::load(pack.values[i]);
    }
    Pack<T, kPack> result;
    for (int i = 0; i < kPack; ++i) kernels::store(&result.values[i], sums[i]);
    *reinterpret_cast<Pack<T, kPack>*>(out + token * dim + column) = result;
  }
};

// The gradient of SumRows with weights, for row n of choice c = (t, k) = choice_of_row[n]:
//   d_rows[n] = weights[c] * dy[t]    d_weights[c] = dy[t] . rows[n]
// and d_rows[n] = 0 where c is -1. Leaves d_weights of choices without a row as it is. Runs over N rows.
template <class T, int kPack>
struct SumRowsBackward {
  const T* rows;                 // [N, D]
  const int64_t* choice_of_row;  // [N]
  const Acc<T>* weights;         // [T, K]
  const T* dy;                   // [T, D]
  T* d_rows;                     // [N, D]
  Acc<T>* d_weights;             // [T, K]
  int64_t top_k;
  int64_t dim;

  template <class Warp>
  SWITCHYARD_HD void operator()(const Warp& warp, int64_t row) const {
    const int64_t choice = choice_of_row[row];
    Acc<T> dots[Warp::kHeld];
    warp.each([&](int lane, int held) {
      dots[held] = 0;
      for (int64_t column = int64_t{kPack} * lane; column < dim; column += kPack * kLanes) {
        dots[held] += spread(row, choice, column);
      }
    });
    const Acc<T> dot = warp.reduce(dots, [](Acc<T> a, Acc<T> b) { return a + b; });
    warp.each([&](int lane, int) {
      if (lane == 0 && choice >= 0) d_weights[choice] = dot;
    });
  }

 private:
  SWITCHYARD_HD Acc<T> spread(int64_t row, int64_t choice, int64_t column) const {
    using P = Pack<T, kPack>;
    Acc<T> dot = 0;
    P result = {};
    if (choice >= 0) {
      const P gradient = *reinterpret_cast<const P*>(dy + choice / top_k * dim + column);
      const P value = *reinterpret_cast<const P*>(rows + row * dim + column);
      for (int i = 0; i < kPack; ++i) {
        const Acc<T> g = kernels::load(gradient.values[i]);
        dot += g * kernels::load(value.values[i]);
        kernels::store(&result.values[i], weights[choice] * g);
      }
    }
    *reinterpret_cast<P*>(d_rows + row * dim + column) = result;
    return dot;
  }
};

}  // namespace switchyard::cuda
