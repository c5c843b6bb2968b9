// Small matrix products with sums in registers, for operands that are in the processor's cache. Included by
// kernels_impl.cpp only, see there.
//
// Products run on packed operands. A word holds what one multiply-add takes at once along the summed dimension: one
// number, or two bfloat16 where the processor has an instruction for that (VDPBF16PS). Without it bfloat16 is widened
// when it is packed.
#pragma once

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <cstring>

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

// Hands out the pieces of a scratch one behind the other, each on a cache line of its own. Without memory it only
// counts the bytes.
struct ScratchPieces {
  void* memory;
  size_t bytes = 0;

  template <class P>
  void take(P*& piece, int64_t count) {
    piece = memory == nullptr ? nullptr : reinterpret_cast<P*>(static_cast<char*>(memory) + bytes);
    bytes += static_cast<size_t>(round_up_to(count * static_cast<int64_t>(sizeof(P)), 64));
  }
};

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

#ifdef __AVX512F__
// 16 rows of 16 words, `from` bytes apart, become 16 columns of rows `to` words apart.
inline void transpose_16_words(const void* x, int64_t from, uint32_t* out, int64_t to) {
  Vector<uint32_t> a[16], b[16];
  // Rows of an odd number of bfloat16 begin between two words.
  for (int i = 0; i < 16; ++i) std::memcpy(&a[i], static_cast<const char*>(x) + i * from, sizeof(a[i]));
  // Pairs of rows are mixed word by word, then pairs of pairs, within each quarter of a vector; then the quarters.
  for (int i = 0; i < 16; i += 2) {
    b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int i = 0; i < 16; ++i) {
    const auto& low = b[i / 4 * 4 + i % 4 / 2];
    const auto& high = b[i / 4 * 4 + i % 4 / 2 + 2];
    a[i] = i % 2 == 0 ? __builtin_shufflevector(low, high, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
                      : __builtin_shufflevector(low, high, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  const auto even_quarters = [](const auto& v, const auto& w) {
    return __builtin_shufflevector(v, w, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  };
  const auto odd_quarters = [](const auto& v, const auto& w) {
    return __builtin_shufflevector(v, w, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  };
  for (int i = 0; i < 4; ++i) {
    const Vector<uint32_t> even = even_quarters(a[i], a[i + 4]), odd = odd_quarters(a[i], a[i + 4]);
    const Vector<uint32_t> more_even = even_quarters(a[i + 8], a[i + 12]), more_odd = odd_quarters(a[i + 8], a[i + 12]);
    store_vector(out + i * to, even_quarters(even, more_even));
    store_vector(out + (i + 4) * to, even_quarters(odd, more_odd));
    store_vector(out + (i + 8) * to, odd_quarters(even, more_even));
    store_vector(out + (i + 12) * to, odd_quarters(odd, more_odd));
  }
}
#endif

// Whole blocks of pack_right_transposed(), where a word is 4 bytes of x as they are.
template <class T>
void transpose_blocks([[maybe_unused]] const T* x, [[maybe_unused]] int64_t stride, [[maybe_unused]] int64_t rows,
                      [[maybe_unused]] int64_t steps, [[maybe_unused]] int64_t columns, [[maybe_unused]] Word<T>* out) {
#ifdef __AVX512F__
  for (int64_t r = 0; r < rows; r += 16) {
    for (int64_t k = 0; k < steps; k += 16) {
      transpose_16_words(x + r * stride + k * Packed<T>::kPerWord, stride * static_cast<int64_t>(sizeof(T)),
                         reinterpret_cast<uint32_t*>(out + k * columns + r), columns);
    }
  }
#endif
}

// x [rows, count] as the right operand that is summed over `count`: its transpose [words(count), columns], zero beyond
// rows.
template <class T>
void pack_right_transposed(const T* x, int64_t stride, int64_t rows, int64_t count, int64_t columns, Word<T>* out) {
  constexpr int64_t kPer = Packed<T>::kPerWord;
  constexpr bool kAsItIs = kVectorBytes == 64 && kPer * sizeof(T) == 4 && sizeof(Word<T>) == 4;
  const int64_t steps = words<T>(count);
  const int64_t whole_rows = kAsItIs ? rows / 16 * 16 : 0, whole_steps = kAsItIs ? count / kPer / 16 * 16 : 0;
  if constexpr (kAsItIs) transpose_blocks(x, stride, whole_rows, whole_steps, columns, out);
  for (int64_t k = 0; k < steps; ++k) {
    const int64_t i = k * kPer;
    const bool last = i + 1 == count;
    for (int64_t r = k < whole_steps ? whole_rows : 0; r < rows; ++r) {
      const T* row = x + r * stride + i;
      out[k * columns + r] = pack_word<T>(row[0], last ? T{} : row[kPer - 1]);
    }
    for (int64_t r = rows; r < columns; ++r) out[k * columns + r] = 0;
  }
}

// Numbers that were computed, as a left operand. x [rows, count], rows `stride` apart; count is a multiple of the
// lanes.
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

}  // namespace
}  // namespace switchyard::kernels
