// Causal attention of one head in blocks of queries: scores, probabilities and their gradients live in a scratch that
// stays in the processor's cache. Included by kernels_impl.cpp only, see there.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/products_impl.h"
#include "ops/kernels/scalars_impl.h"

namespace switchyard::kernels {
namespace {

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
  Word<T>* left;          // probabilities or their gradients, packed by row
  Word<T>* left_columns;  // by column
  A* scores;              // [kBlock, columns]
  A* d_scores;
  A* result;    // a block of out or d_q
  A* d_keys;    // [columns, head columns]
  A* d_values;  // [columns, value columns]
  size_t bytes = 0;

  AttentionScratch(const AttentionShape& shape, void* memory) {
    const int64_t columns = round_up_to(shape.sequence, kLanes<A>);
    const int64_t head = round_up_to(shape.head_dim, kLanes<A>);
    const int64_t value = round_up_to(shape.value_dim, kLanes<A>);
    ScratchPieces pieces{memory};
    pieces.take(keys, words<T>(shape.head_dim) * columns);
    pieces.take(values, larger(words<T>(shape.sequence) * value, words<T>(shape.value_dim) * columns));
    pieces.take(key_rows, words<T>(shape.sequence) * head);
    pieces.take(queries, kBlock * words<T>(shape.head_dim));
    pieces.take(query_rows, words<T>(kBlock) * head);
    pieces.take(outs, kBlock * words<T>(shape.value_dim));
    pieces.take(out_rows, words<T>(kBlock) * value);
    pieces.take(left, kBlock * words<T>(columns));
    pieces.take(left_columns, words<T>(kBlock) * columns);
    pieces.take(scores, kBlock * columns);
    pieces.take(d_scores, kBlock * columns);
    pieces.take(result, kBlock * larger(head, value));
    pieces.take(d_keys, columns * head);
    pieces.take(d_values, columns * value);
    bytes = pieces.bytes;
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
void attention_backward(const AttentionShape& shape, const AttentionHead<T>& head, const Acc<T>* log_sums,
                        const T* d_out, const AttentionGradients<T>& gradients, void* memory) {
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

template <class T>
void attention_of_one(const T* q, const T* k, const T* v, int64_t query_heads, int64_t positions, int64_t head_dim,
                      int64_t value_dim, double scale, T* out, Acc<T>* scores) {
  using A = Acc<T>;
  constexpr int64_t kColumns = 256;
  for (int64_t h = 0; h < query_heads; ++h, q += head_dim, out += value_dim) {
    for (int64_t p = 0; p < positions; ++p) {
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < head_dim; ++i) sum += load(q[i]) * load(k[p * head_dim + i]);
      scores[p] = sum;
    }
    A total, largest;
    exponentials(scores, positions, positions, static_cast<A>(scale), total, largest);
    for (int64_t begin = 0; begin < value_dim; begin += kColumns) {
      const int64_t size = value_dim - begin < kColumns ? value_dim - begin : kColumns;
      A sums[kColumns] = {};
      for (int64_t p = 0; p < positions; ++p) {
        const T* row = v + p * value_dim + begin;
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) sums[i] += scores[p] * load(row[i]);
      }
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) store(&out[begin + i], sums[i] / total);
    }
  }
}

}  // namespace
}  // namespace switchyard::kernels
