// Causal attention of one head in blocks of queries: scores, probabilities and their gradients live in a scratch that
// stays in the processor's cache. Included by kernels_impl.cpp only, see there.
//
// Products run on packed operands. A word holds what one multiply-add takes at once along the summed dimension: one
// number, or two bfloat16 where the processor has an instruction for that (VDPBF16PS). Without it bfloat16 is widened
// when it is packed.
#pragma once

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "ops/kernels/kernels.h"
#include "ops/kernels/scalars_impl.h"

namespace switchyard::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int64_t kVectorBytes = 32;
#else
constexpr int64_t kVectorBytes = 16;
#endif

// What a packed operand of T consists of.
template <class T>
struct Packed {
  using Word = Acc<T>;
  static constexpr int64_t kPerWord = 1;
};
#ifdef __AVX512BF16__
template <>
struct Packed<Bf16> {
  using Word = uint32_t;
  static constexpr int64_t kPerWord = 2;
};
#endif

template <class T>
using Word = typename Packed<T>::Word;
template <class A>
using Vector [[gnu::vector_size(kVectorBytes)]] = A;
template <class A>
using UnalignedVector [[gnu::vector_size(kVectorBytes), gnu::aligned(alignof(A)), gnu::may_alias]] = A;
template <class A>
inline Vector<A> load_vector(const A* from) {
  return *reinterpret_cast<const UnalignedVector<A>*>(from);
}
template <class A, class V>
inline void store_vector(A* to, const V& value) {
  *reinterpret_cast<UnalignedVector<A>*>(to) = value;
}
template <class A>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(A));

inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t round_up_to(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
template <class T>
int64_t words(int64_t count) {
  return (count + Packed<T>::kPerWord - 1) / Packed<T>::kPerWord;
}

// --- products ----------------------------------------------------------------------------------------------------

// sum += a * b, of words.
inline void multiply_add(Vector<float>& sum, float a, const Vector<float>& b) { sum += a * b; }
inline void multiply_add(Vector<double>& sum, double a, const Vector<double>& b) { sum += a * b; }
#ifdef __AVX512BF16__
inline void multiply_add(Vector<float>& sum, uint32_t a, const Vector<uint32_t>& b) {
  const __m512i pair = _mm512_set1_epi32(static_cast<int>(a));
  sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pair, (__m512bh)b);
}
#endif

// The left operand: word k of row m is at data[m * row + k * step].
template <class T>
struct Left {
  const Word<T>* data;
  int64_t row;
  int64_t step;
};

// A block of kRows rows and kVectors vectors of out (+)= left right, with sums in registers.
template <class T, int kRows, int kVectors>
inline void multiply_tile(const Left<T>& left, const Word<T>* right, int64_t right_row, Acc<T>* out, int64_t out_row,
                          int64_t steps, bool add) {
  using A = Acc<T>;
  constexpr int64_t kLane = kLanes<A>;
  // Unrolled throughout, so that the sums stay in registers.
  Vector<A> sum[kRows][kVectors];
#pragma GCC unroll 24
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) {
      sum[m][n] = add ? load_vector(out + m * out_row + n * kLane) : Vector<A>{};
    }
  }
  for (int64_t k = 0; k < steps; ++k, right += right_row) {
    Vector<Word<T>> b[kVectors];
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) b[n] = load_vector(right + n * kLane);
#pragma GCC unroll 24
    for (int m = 0; m < kRows; ++m) {
      const Word<T> a = left.data[m * left.row + k * left.step];
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) multiply_add(sum[m][n], a, b[n]);
    }
  }
#pragma GCC unroll 24
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) store_vector(out + m * out_row + n * kLane, sum[m][n]);
  }
}

template <class T, int kVectors>
void multiply_columns(const Left<T>& left, const Word<T>* right, int64_t right_row, Acc<T>* out, int64_t out_row,
                      int64_t rows, int64_t steps, bool add) {
  // As many sums as registers allow, and enough of them to hide the latency of a multiply-add.
  constexpr int kRows = (kVectorBytes == 64 ? 24 : 8) / kVectors;
  int64_t m = 0;
  const auto at = [&](int64_t row) { return Left<T>{left.data + row * left.row, left.row, left.step}; };
  for (; m + kRows <= rows; m += kRows) {
    multiply_tile<T, kRows, kVectors>(at(m), right, right_row, out + m * out_row, out_row, steps, add);
  }
  if constexpr (kRows > 4) {
    for (; m + 4 <= rows; m += 4) {
      multiply_tile<T, 4, kVectors>(at(m), right, right_row, out + m * out_row, out_row, steps, add);
    }
  }
  for (; m < rows; ++m) {
    multiply_tile<T, 1, kVectors>(at(m), right, right_row, out + m * out_row, out_row, steps, add);
  }
}

// out [rows, columns] (+)= left [rows, steps words] right [steps, columns]; columns is a multiple of the lanes.
template <class T>
void multiply(const Left<T>& left, const Word<T>* right, int64_t right_row, Acc<T>* out, int64_t out_row, int64_t rows,
              int64_t columns, int64_t steps, bool add) {
  constexpr int64_t kLane = kLanes<Acc<T>>;
  int64_t n = 0;
  for (; n + 4 * kLane <= columns; n += 4 * kLane) {
    multiply_columns<T, 4>(left, right + n, right_row, out + n, out_row, rows, steps, add);
  }
  for (; n + 2 * kLane <= columns; n += 2 * kLane) {
    multiply_columns<T, 2>(left, right + n, right_row, out + n, out_row, rows, steps, add);
  }
  for (; n < columns; n += kLane) {
    multiply_columns<T, 1>(left, right + n, right_row, out + n, out_row, rows, steps, add);
  }
}

// --- packing -----------------------------------------------------------------------------------------------------

inline uint32_t word_of(Bf16 low, Bf16 high) { return static_cast<uint32_t>(high.bits) << 16 | low.bits; }
// The word of T that has `low` first; `high` counts where a word has room for two.
template <class T>
Word<T> pack_word(T low, T high) {
  if constexpr (Packed<T>::kPerWord == 2) {
    return word_of(low, high);
  } else {
    return load(low);
  }
}

// x [rows, count], rows `stride` apart, as a left operand: [rows, words(count)].
template <class T>
void pack_left(const T* x, int64_t stride, int64_t rows, int64_t count, Word<T>* out) {
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    for (int64_t i = 0; i + 1 < count; i += Packed<T>::kPerWord) *out++ = pack_word<T>(x[i], x[i + 1]);
    if (Packed<T>::kPerWord == 1 || count % 2 != 0) *out++ = pack_word<T>(x[count - 1], T{});
  }
}

// x [rows, count] as the right operand that is summed over rows: [words(rows), columns], zero beyond count.
template <class T>
void pack_right(const T* x, int64_t stride, int64_t rows, int64_t count, int64_t columns, Word<T>* out) {
  for (int64_t r = 0; r < rows; r += Packed<T>::kPerWord, out += columns) {
    const T* low = x + r * stride;
    const bool last = r + 1 == rows;
    const T* high = last ? low : low + stride;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] = pack_word<T>(low[i], last ? T{} : high[i]);
    for (int64_t i = count; i < columns; ++i) out[i] = 0;
  }
}

// x [rows, count] as the right operand that is summed over `count`: its transpose [words(count), columns], zero beyond
// rows.
template <class T>
void pack_right_transposed(const T* x, int64_t stride, int64_t rows, int64_t count, int64_t columns, Word<T>* out) {
  constexpr int64_t kPer = Packed<T>::kPerWord;
  const int64_t steps = words<T>(count);
  for (int64_t k = 0; k < steps; ++k) {
    const int64_t i = k * kPer;
    const bool last = i + 1 == count;
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = x + r * stride + i;
      out[k * columns + r] = pack_word<T>(row[0], last ? T{} : row[kPer - 1]);
    }
    for (int64_t r = rows; r < columns; ++r) out[k * columns + r] = 0;
  }
}

// Numbers that were computed, as a left operand. x [rows, count], rows `stride` apart; count is a multiple of the lanes.
//   by row:    [rows, words(count)], summed over count
//   by column: [words(rows), count], summed over rows
template <class T>
Left<T> pack_computed_by_row(const Acc<T>* x, int64_t stride, int64_t rows, int64_t count, Word<T>* out) {
  if constexpr (Packed<T>::kPerWord == 1) {
    return {x, stride, 1};
  } else {
    const int64_t row_words = words<T>(count);
    for (int64_t r = 0; r < rows; ++r) {
      auto* numbers = reinterpret_cast<Bf16*>(out + r * row_words);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) store(&numbers[i], x[r * stride + i]);
    }
    return {out, row_words, 1};
  }
}

template <class T>
Left<T> pack_computed_by_column(const Acc<T>* x, int64_t stride, int64_t rows, int64_t count, Word<T>* out) {
  if constexpr (Packed<T>::kPerWord == 1) {
    return {x, 1, stride};
  } else {
    for (int64_t r = 0; r < rows; r += 2) {
      const Acc<T>* low = x + r * stride;
      const Acc<T>* high = r + 1 < rows ? low + stride : nullptr;
      Word<T>* to = out + r / 2 * count;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) {
        Bf16 a, b;
        store(&a, low[i]);
        store(&b, high == nullptr ? 0.0F : high[i]);
        to[i] = word_of(a, b);
      }
    }
    return {out, 1, count};
  }
}

// --- attention ---------------------------------------------------------------------------------------------------

// Queries of a block.
constexpr int64_t kBlock = 48;

// Where in the scratch what is: every piece on a cache line of its own.
template <class T>
struct AttentionScratch {
  using A = Acc<T>;
  Word<T>* keys;        // k^T: [words(head_dim), columns]
  Word<T>* values;      // forward: v [words(S), value columns]; backward: v^T [words(value_dim), columns]
  Word<T>* key_rows;    // k [words(S), head columns]
  Word<T>* queries;     // a block of q as a left operand
  Word<T>* query_rows;  // and as a right one
  Word<T>* outs;        // d_out, likewise
  Word<T>* out_rows;
  Word<T>* left;   // probabilities or their gradients, packed by row
  Word<T>* left_columns;  // by column
  A* scores;       // [kBlock, columns]
  A* d_scores;
  A* result;       // a block of out or d_q
  A* d_keys;       // [columns, head columns]
  A* d_values;     // [columns, value columns]
  size_t bytes = 0;

  AttentionScratch(const AttentionShape& shape, void* memory) {
    auto* base = static_cast<char*>(memory);
    const int64_t columns = round_up_to(shape.sequence, kLanes<A>);
    const int64_t head = round_up_to(shape.head_dim, kLanes<A>);
    const int64_t value = round_up_to(shape.value_dim, kLanes<A>);
    const auto take = [&]<class P>(P*& piece, int64_t count) {
      piece = memory == nullptr ? nullptr : reinterpret_cast<P*>(base + bytes);
      bytes += static_cast<size_t>(round_up_to(count * static_cast<int64_t>(sizeof(P)), 64));
    };
    take(keys, words<T>(shape.head_dim) * columns);
    take(values, larger(words<T>(shape.sequence) * value, words<T>(shape.value_dim) * columns));
    take(key_rows, words<T>(shape.sequence) * head);
    take(queries, kBlock * words<T>(shape.head_dim));
    take(query_rows, words<T>(kBlock) * head);
    take(outs, kBlock * words<T>(shape.value_dim));
    take(out_rows, words<T>(kBlock) * value);
    take(left, kBlock * words<T>(columns));
    take(left_columns, words<T>(kBlock) * columns);
    take(scores, kBlock * columns);
    take(d_scores, kBlock * columns);
    take(result, kBlock * larger(head, value));
    take(d_keys, columns * head);
    take(d_values, columns * value);
  }
};

template <class T>
size_t attention_scratch(const AttentionShape& shape) {
  return AttentionScratch<T>(shape, nullptr).bytes;
}

// Scores become exponentials of their distance to the row's largest; returns their sum and that largest.
template <class A>
inline void exponentials(A* scores, int64_t seen, int64_t columns, A scale, A& sum, A& largest) {
  A most = scores[0];
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < seen; ++i) most = scores[i] > most ? scores[i] : most;
  A total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < seen; ++i) {
    const A value = exponential((scores[i] - most) * scale);
    scores[i] = value;
    total += value;
  }
  for (int64_t i = seen; i < columns; ++i) scores[i] = 0;
  sum = total;
  largest = most;
}

template <class T>
void attention_forward(const AttentionShape& shape, const AttentionHead<T>& head, T* out, Acc<T>* log_sums,
                       void* memory) {
  using A = Acc<T>;
  const AttentionScratch<T> at(shape, memory);
  const int64_t all_columns = round_up_to(shape.sequence, kLanes<A>);
  const int64_t value_columns = round_up_to(shape.value_dim, kLanes<A>);
  const int64_t head_words = words<T>(shape.head_dim);
  const A scale = static_cast<A>(shape.scale);
  pack_right_transposed(head.k, shape.head_dim, shape.sequence, shape.head_dim, all_columns, at.keys);
  pack_right(head.v, shape.value_dim, shape.sequence, shape.value_dim, value_columns, at.values);
  for (int64_t h = 0; h < shape.query_heads; ++h) {
    for (int64_t begin = 0; begin < shape.sequence; begin += kBlock) {
      const int64_t end = begin + kBlock < shape.sequence ? begin + kBlock : shape.sequence;
      const int64_t rows = end - begin;
      const int64_t columns = round_up_to(end, kLanes<A>);
      pack_left(head.q + h * shape.query_stride + begin * shape.head_dim, shape.head_dim, rows, shape.head_dim,
                at.queries);
      multiply<T>({at.queries, head_words, 1}, at.keys, all_columns, at.scores, columns, rows, columns, head_words,
                  /*add=*/false);
      A inverse[kBlock];
      for (int64_t r = 0; r < rows; ++r) {
        A sum, largest;
        exponentials(at.scores + r * columns, begin + r + 1, columns, scale, sum, largest);
        inverse[r] = A(1) / sum;
        log_sums[h * shape.sequence + begin + r] = largest + std::log(sum) / scale;
      }
      const Left<T> weights = pack_computed_by_row<T>(at.scores, columns, rows, columns, at.left);
      multiply<T>(weights, at.values, value_columns, at.result, value_columns, rows, value_columns, words<T>(end),
                  /*add=*/false);
      for (int64_t r = 0; r < rows; ++r) {
        T* to = out + (begin + r) * shape.out_stride + h * shape.value_dim;
        const A* from = at.result + r * value_columns;
#pragma omp simd
        for (int64_t i = 0; i < shape.value_dim; ++i) store(&to[i], from[i] * inverse[r]);
      }
    }
  }
}

// scores become probabilities, d_scores from gradients of probabilities to gradients of scores.
template <class A>
inline void softmax_gradient(A* scores, A* d_scores, int64_t seen, int64_t columns, A scale, A log_sum) {
  A dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < seen; ++i) {
    const A p = exponential((scores[i] - log_sum) * scale);
    dot += p * d_scores[i];
    scores[i] = p;
  }
#pragma omp simd
  for (int64_t i = 0; i < seen; ++i) d_scores[i] = scale * scores[i] * (d_scores[i] - dot);
  for (int64_t i = seen; i < columns; ++i) scores[i] = d_scores[i] = 0;
}

template <class T>
void store_rows(const Acc<T>* from, int64_t from_row, T* to, int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; ++r, from += from_row, to += count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) store(&to[i], from[i]);
  }
}

template <class T>
void attention_backward(const AttentionShape& shape, const AttentionHead<T>& head, const Acc<T>* log_sums, const T* d_out,
                        const AttentionGradients<T>& gradients, void* memory) {
  using A = Acc<T>;
  const AttentionScratch<T> at(shape, memory);
  const int64_t all_columns = round_up_to(shape.sequence, kLanes<A>);
  const int64_t head_columns = round_up_to(shape.head_dim, kLanes<A>);
  const int64_t value_columns = round_up_to(shape.value_dim, kLanes<A>);
  const int64_t head_words = words<T>(shape.head_dim);
  const int64_t value_words = words<T>(shape.value_dim);
  const A scale = static_cast<A>(shape.scale);
  pack_right_transposed(head.k, shape.head_dim, shape.sequence, shape.head_dim, all_columns, at.keys);
  pack_right_transposed(head.v, shape.value_dim, shape.sequence, shape.value_dim, all_columns, at.values);
  pack_right(head.k, shape.head_dim, shape.sequence, shape.head_dim, head_columns, at.key_rows);
  std::memset(at.d_keys, 0, static_cast<size_t>(all_columns * head_columns) * sizeof(A));
  std::memset(at.d_values, 0, static_cast<size_t>(all_columns * value_columns) * sizeof(A));
  for (int64_t h = 0; h < shape.query_heads; ++h) {
    for (int64_t begin = 0; begin < shape.sequence; begin += kBlock) {
      const int64_t end = begin + kBlock < shape.sequence ? begin + kBlock : shape.sequence;
      const int64_t rows = end - begin;
      const int64_t columns = round_up_to(end, kLanes<A>);
      const T* q = head.q + h * shape.query_stride + begin * shape.head_dim;
      const int64_t out_at = begin * shape.out_stride + h * shape.value_dim;
      pack_left(q, shape.head_dim, rows, shape.head_dim, at.queries);
      pack_right(q, shape.head_dim, rows, shape.head_dim, head_columns, at.query_rows);
      pack_left(d_out + out_at, shape.out_stride, rows, shape.value_dim, at.outs);
      pack_right(d_out + out_at, shape.out_stride, rows, shape.value_dim, value_columns, at.out_rows);
      multiply<T>({at.queries, head_words, 1}, at.keys, all_columns, at.scores, columns, rows, columns, head_words,
                  /*add=*/false);
      multiply<T>({at.outs, value_words, 1}, at.values, all_columns, at.d_scores, columns, rows, columns, value_words,
                  /*add=*/false);
      for (int64_t r = 0; r < rows; ++r) {
        softmax_gradient(at.scores + r * columns, at.d_scores + r * columns, begin + r + 1, columns, scale,
                         log_sums[h * shape.sequence + begin + r]);
      }
      // d_v += p^T d_out, d_k += d_s^T q, d_q = d_s k
      const Left<T> weights = pack_computed_by_column<T>(at.scores, columns, rows, columns, at.left_columns);
      multiply<T>(weights, at.out_rows, value_columns, at.d_values, value_columns, end, value_columns, words<T>(rows),
                  /*add=*/true);
      const Left<T> d_columns = pack_computed_by_column<T>(at.d_scores, columns, rows, columns, at.left_columns);
      multiply<T>(d_columns, at.query_rows, head_columns, at.d_keys, head_columns, end, head_columns, words<T>(rows),
                  /*add=*/true);
      const Left<T> d_rows = pack_computed_by_row<T>(at.d_scores, columns, rows, columns, at.left);
      multiply<T>(d_rows, at.key_rows, head_columns, at.result, head_columns, rows, head_columns, words<T>(end),
                  /*add=*/false);
      store_rows(at.result, head_columns, gradients.q + h * shape.query_stride + begin * shape.head_dim, rows,
                 shape.head_dim);
    }
  }
  store_rows(at.d_keys, head_columns, gradients.k, shape.sequence, shape.head_dim);
  store_rows(at.d_values, value_columns, gradients.v, shape.sequence, shape.value_dim);
}

}  // namespace
}  // namespace switchyard::kernels
