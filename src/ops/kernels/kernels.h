// Fused CPU loops over rows, compiled once per instruction set and chosen at run time. Each has a plain ATen
// counterpart beside the operation that uses it (src/ops/*.cpp); other devices always take that one.
//
// Legend: rows are contiguous. T tokens, D hidden, F expert width, E experts, K experts per token, V vocabulary,
// S sequence, hd head_dim. Acc<T> is what sums are kept in: float for float and bf16, double for double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace switchyard::kernels {

struct Bf16 {
  uint16_t bits;
};

template <class T>
struct AccOf {
  using type = T;
};
template <>
struct AccOf<Bf16> {
  using type = float;
};
template <class T>
using Acc = typename AccOf<T>::type;

// One key/value head and the query heads that use it, H / G of them. Vectors are contiguous, their strides count
// elements.
struct AttentionShape {
  int64_t query_heads;   // H / G
  int64_t sequence;      // S
  int64_t head_dim;      // of queries and keys
  int64_t value_dim;     // of values and the result
  int64_t query_stride;  // from one query head to the next, in q and its gradient (there the rows are head_dim apart)
  int64_t out_stride;    // from one position to the next in `out` and its gradient; heads are value_dim apart
  double scale;
};
template <class T>
struct AttentionHead {
  const T* q;  // [H / G, S, head_dim]
  const T* k;  // [S, head_dim]
  const T* v;  // [S, value_dim]
};
template <class T>
struct AttentionGradients {
  T* q;
  T* k;
  T* v;
};

enum class Nonlinearity {
  kSilu,  // x sigmoid(x)
  kGelu,  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  kRelu,
};

// A matrix product summed over k: out [m, n] = a b.
enum class ProductForm {
  kPlain,        // a [m, k], b [k, n]
  kTransposedB,  // a [m, k], b [n, k]: rows times the transpose of weights
  kTransposedA,  // a [k, m], b [k, n]: the gradient of weights
};
struct ProductShape {
  ProductForm form;
  int64_t m;
  int64_t n;
  int64_t k;
  int64_t a_stride;  // elements from one row to the next
  int64_t b_stride;
  int64_t out_stride;
};

// What one AdamW step does to every element.
template <class A>
struct AdamWFactors {
  A gradient_scale;  // of clipping
  A decay;           // 1 - learning rate * weight decay
  A beta1;
  A beta2;
  A step_size;        // learning rate / (1 - beta1^t)
  A root_correction;  // 1 / sqrt(1 - beta2^t)
  A eps;
};

template <class T>
struct Kernels {
  // y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps). x, y [rows, D]; weight [D]; rstd [rows].
  void (*rms_norm_forward)(const T* x, const Acc<T>* weight, T* y, Acc<T>* rstd, int64_t rows, int64_t dim, double eps);
  // dx [rows, D]; adds to dweight [D].
  void (*rms_norm_backward)(const T* dy, const T* x, const Acc<T>* weight, const Acc<T>* rstd, T* dx, Acc<T>* dweight,
                            int64_t rows, int64_t dim);
  // y = f(hidden), or with `gated` y = f(gate) * up. hidden [rows, F], or [rows, 2F] with the gate first; y [rows, F].
  void (*activation_forward)(Nonlinearity f, bool gated, const T* hidden, T* y, int64_t rows, int64_t width);
  // d_hidden from dy; y is computed again.
  void (*activation_backward)(Nonlinearity f, bool gated, const T* hidden, const T* dy, T* d_hidden, T* y, int64_t rows,
                              int64_t width);
  // Rotates the two halves of a head's vector (Su et al. 2021, in the half-split layout): out = rotate(in, angle).
  // cos, sin [hd / 2]; direction 1 rotates forward, -1 back.
  void (*rotate)(const T* in, T* out, const Acc<T>* cos, const Acc<T>* sin, int64_t head_dim, int direction);
  // Bytes that a thread needs beside, for a head of these sizes, to compute attention forward or backward.
  size_t (*attention_scratch)(const AttentionShape& shape);
  // out = softmax(scale * q k^T, causal) v of every query head of one key/value head; log_sums [H / G, S] gets the
  // logarithm of each softmax's denominator, over the scale. Nothing of size S * S is kept (Dao et al. 2022,
  // FlashAttention).
  void (*attention_forward)(const AttentionShape& shape, const AttentionHead<T>& head, T* out, Acc<T>* log_sums,
                            void* scratch);
  // The gradients of q, k and v from that of out; `log_sums` as the forward left them.
  void (*attention_backward)(const AttentionShape& shape, const AttentionHead<T>& head, const Acc<T>* log_sums,
                             const T* d_out, const AttentionGradients<T>& gradients, void* scratch);
  // The same for one query a head, forward alone, as in generation: out [H / G, value_dim] = softmax(scale q k^T) v. q
  // [H / G, head_dim], k [positions, head_dim], v [positions, value_dim], all contiguous; scores [positions] is
  // scratch.
  void (*attention_of_one)(const T* q, const T* k, const T* v, int64_t query_heads, int64_t positions, int64_t head_dim,
                           int64_t value_dim, double scale, T* out, Acc<T>* scores);
  // out[m, n] = x[m] . weight[n] (+ bias[n], where it is not null): products of a few rows, which wait for the weights
  // to come from memory. x [rows, width], weight [count, width]; out [rows, count] with rows out_stride apart.
  void (*few_rows_product)(const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t count,
                           int64_t width, int64_t out_stride);
  // Bytes that a thread needs beside for a product of this shape: bounded by the size of a cache and of a few rows of
  // k.
  size_t (*product_scratch)(const ProductShape& shape);
  // out = a b (+ bias [n], where it is not null), each sum from k = 0 on in one Acc<T>: whatever m and n are, or how
  // they are cut.
  void (*product)(const ProductShape& shape, const T* a, const T* b, const T* bias, T* out, void* scratch);
  // out += a b.
  void (*product_add)(const ProductShape& shape, const T* a, const T* b, Acc<T>* out, void* scratch);
  // Cross-entropy of rows of logits [rows, V] against targets; a negative target is ignored. losses [rows].
  // With `gradient`, logits become d(scale * sum of losses) / d(logits), in place.
  void (*cross_entropy)(T* logits, const int64_t* targets, Acc<T>* losses, int64_t rows, int64_t vocab, bool gradient,
                        Acc<T> scale);
  // probabilities [rows, n] = softmax(logits), log_sums [rows] = log sum exp(logits).
  void (*softmax)(const T* logits, T* probabilities, Acc<T>* log_sums, int64_t rows, int64_t n);
  // out[t] = sum_k weights[t, k] * rows[position[t, k]], positions below zero skipped; weights null: all one.
  void (*combine)(const T* rows, const int64_t* position, const Acc<T>* weights, T* out, int64_t tokens, int64_t top_k,
                  int64_t dim);
  // d_rows[position[t, k]] = weights[t, k] * dy[t];  d_weights[t, k] = dot(dy[t], rows[position[t, k]]).
  void (*combine_backward)(const T* rows, const int64_t* position, const Acc<T>* weights, const T* dy, T* d_rows,
                           Acc<T>* d_weights, int64_t tokens, int64_t top_k, int64_t dim);
  // The sum of squares, in float64.
  double (*square_sum)(const T* x, int64_t count);
  // AdamW (Loshchilov and Hutter 2019, algorithm 2): parameter and moments after a step with this gradient. `copy`,
  // where it is not null, gets the parameter rounded.
  void (*adamw)(const T* gradient, Acc<T>* parameter, Acc<T>* exp_avg, Acc<T>* exp_avg_sq, Bf16* copy, int64_t count,
                const AdamWFactors<Acc<T>>& factors);
};

// The best table for this processor.
template <class T>
const Kernels<T>& kernels();
// "avx512bf16" (bf16 products, too), "avx512", "avx2" or "baseline".
const char* instruction_set();
// Those that the loops are compiled for, the plainest first.
std::vector<const char*> compiled_instruction_sets();

}  // namespace switchyard::kernels
