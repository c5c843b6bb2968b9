// The loops themselves. This file is compiled several times, with SWITCHYARD_ISA naming the instruction set, and
// includes nothing that could leave an inline function built for one processor where another would call it.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "ops/kernels/activation_impl.h"
#include "ops/kernels/attention_impl.h"
#include "ops/kernels/kernels.h"
#include "ops/kernels/scalars_impl.h"
#include "ops/kernels/whole_product_impl.h"

#define SWITCHYARD_CONCAT2(a, b) a##b
#define SWITCHYARD_CONCAT(a, b) SWITCHYARD_CONCAT2(a, b)

namespace switchyard::kernels {
namespace {

// --- normalisation -----------------------------------------------------------------------------------------------

template <class T>
void rms_norm_forward(const T* x, const Acc<T>* weight, T* y, Acc<T>* rstd, int64_t rows, int64_t dim, double eps) {
  using A = Acc<T>;
  for (int64_t row = 0; row < rows; ++row, x += dim, y += dim) {
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < dim; ++i) {
      const A value = load(x[i]);
      sum += value * value;
    }
    const A scale = A(1) / std::sqrt(sum / static_cast<A>(dim) + static_cast<A>(eps));
    rstd[row] = scale;
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) store(&y[i], load(x[i]) * scale * weight[i]);
  }
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const Acc<T>* weight, const Acc<T>* rstd, T* dx, Acc<T>* dweight,
                       int64_t rows, int64_t dim) {
  using A = Acc<T>;
  for (int64_t row = 0; row < rows; ++row, x += dim, dy += dim, dx += dim) {
    const A scale = rstd[row];
    A dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < dim; ++i) {
      const A gradient = load(dy[i]);
      const A value = load(x[i]);
      dot += gradient * weight[i] * value;
      dweight[i] += gradient * value * scale;
    }
    const A correction = dot * scale * scale * scale / static_cast<A>(dim);
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) store(&dx[i], load(dy[i]) * weight[i] * scale - load(x[i]) * correction);
  }
}

// --- attention ---------------------------------------------------------------------------------------------------

template <class T>
void rotate(const T* in, T* out, const Acc<T>* cos, const Acc<T>* sin, int64_t head_dim, int direction) {
  const int64_t half = head_dim / 2;
  const auto sign = static_cast<Acc<T>>(direction);
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const Acc<T> a = load(in[i]);
    const Acc<T> b = load(in[i + half]);
    store(&out[i], a * cos[i] - b * sin[i] * sign);
    store(&out[i + half], b * cos[i] + a * sin[i] * sign);
  }
}

// --- products of a few rows -----------------------------------------------------------------------------------------

template <class T>
void few_rows_product(const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t count, int64_t width,
                      int64_t out_stride) {
  for (int64_t n = 0; n < count; ++n, weight += width) {
    for (int64_t m = 0; m < rows; ++m) {
      const T* row = x + m * width;
      Acc<T> sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < width; ++i) sum += load(row[i]) * load(weight[i]);
      store(&out[m * out_stride + n], bias == nullptr ? sum : sum + load(bias[n]));
    }
  }
}

// --- loss --------------------------------------------------------------------------------------------------------

// log sum exp(x).
template <class T>
inline Acc<T> log_sum(const T* x, int64_t n) {
  using A = Acc<T>;
  A largest = load(x[0]);
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) {
    const A value = load(x[i]);
    largest = value > largest ? value : largest;
  }
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += exponential(load(x[i]) - largest);
  return largest + std::log(sum);
}

template <class T>
void cross_entropy(T* logits, const int64_t* targets, Acc<T>* losses, int64_t rows, int64_t vocab, bool gradient,
                   Acc<T> scale) {
  using A = Acc<T>;
  for (int64_t row = 0; row < rows; ++row, logits += vocab) {
    const int64_t target = targets[row];
    if (target < 0) {
      losses[row] = 0;
      if (gradient) std::memset(static_cast<void*>(logits), 0, static_cast<size_t>(vocab) * sizeof(T));
      continue;
    }
    const A shift = log_sum(logits, vocab);
    losses[row] = shift - load(logits[target]);
    if (!gradient) continue;
    const A target_gradient = scale * (exponential(load(logits[target]) - shift) - A(1));
#pragma omp simd
    for (int64_t i = 0; i < vocab; ++i) store(&logits[i], scale * exponential(load(logits[i]) - shift));
    store(&logits[target], target_gradient);
  }
}

template <class T>
void softmax(const T* logits, T* probabilities, Acc<T>* log_sums, int64_t rows, int64_t n) {
  using A = Acc<T>;
  for (int64_t row = 0; row < rows; ++row, logits += n, probabilities += n) {
    const A shift = log_sum(logits, n);
    log_sums[row] = shift;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(&probabilities[i], exponential(load(logits[i]) - shift));
  }
}

// --- experts -----------------------------------------------------------------------------------------------------

template <class T>
void combine(const T* rows, const int64_t* position, const Acc<T>* weights, T* out, int64_t tokens, int64_t top_k,
             int64_t dim) {
  using A = Acc<T>;
  constexpr int64_t kBlock = 256;
  A sum[kBlock];
  for (int64_t token = 0; token < tokens; ++token, position += top_k, out += dim) {
    for (int64_t begin = 0; begin < dim; begin += kBlock) {
      const int64_t size = dim - begin < kBlock ? dim - begin : kBlock;
      for (int64_t i = 0; i < size; ++i) sum[i] = 0;
      for (int64_t k = 0; k < top_k; ++k) {
        if (position[k] < 0) continue;
        const T* row = rows + position[k] * dim + begin;
        const A weight = weights == nullptr ? A(1) : weights[token * top_k + k];
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) sum[i] += weight * load(row[i]);
      }
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) store(&out[begin + i], sum[i]);
    }
  }
}

template <class T>
void combine_backward(const T* rows, const int64_t* position, const Acc<T>* weights, const T* dy, T* d_rows,
                      Acc<T>* d_weights, int64_t tokens, int64_t top_k, int64_t dim) {
  using A = Acc<T>;
  for (int64_t token = 0; token < tokens; ++token, dy += dim) {
    for (int64_t k = 0; k < top_k; ++k) {
      const int64_t at = token * top_k + k;
      A dot = 0;
      if (position[at] >= 0) {
        const T* row = rows + position[at] * dim;
        T* d_row = d_rows + position[at] * dim;
        const A weight = weights[at];
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < dim; ++i) {
          const A gradient = load(dy[i]);
          dot += gradient * load(row[i]);
          store(&d_row[i], weight * gradient);
        }
      }
      d_weights[at] = dot;
    }
  }
}

// --- optimizer ---------------------------------------------------------------------------------------------------

template <class T>
double square_sum(const T* x, int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<double>(load(x[i]));
    sum += value * value;
  }
  return sum;
}

template <bool kCopies, class T>
void adamw_loop(const T* gradient, Acc<T>* parameter, Acc<T>* exp_avg, Acc<T>* exp_avg_sq, Bf16* copy, int64_t count,
                const AdamWFactors<Acc<T>>& f) {
  using A = Acc<T>;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const A g = load(gradient[i]) * f.gradient_scale;
    const A m = exp_avg[i] * f.beta1 + g * (A(1) - f.beta1);
    const A v = exp_avg_sq[i] * f.beta2 + g * g * (A(1) - f.beta2);
    const A p = parameter[i] * f.decay - f.step_size * m / (std::sqrt(v) * f.root_correction + f.eps);
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    parameter[i] = p;
    if constexpr (kCopies) store(&copy[i], static_cast<float>(p));
  }
}

template <class T>
void adamw(const T* gradient, Acc<T>* parameter, Acc<T>* exp_avg, Acc<T>* exp_avg_sq, Bf16* copy, int64_t count,
           const AdamWFactors<Acc<T>>& factors) {
  if (copy == nullptr) return adamw_loop<false>(gradient, parameter, exp_avg, exp_avg_sq, copy, count, factors);
  adamw_loop<true>(gradient, parameter, exp_avg, exp_avg_sq, copy, count, factors);
}

template <class T>
constexpr Kernels<T> kTable = {.rms_norm_forward = rms_norm_forward<T>,
                               .rms_norm_backward = rms_norm_backward<T>,
                               .activation_forward = activation_forward<T>,
                               .activation_backward = activation_backward<T>,
                               .rotate = rotate<T>,
                               .attention_scratch = attention_scratch<T>,
                               .attention_forward = attention_forward<T>,
                               .attention_backward = attention_backward<T>,
                               .attention_of_one = attention_of_one<T>,
                               .few_rows_product = few_rows_product<T>,
                               .product_scratch = product_scratch<T>,
                               .product = product<T>,
                               .product_add = product_add<T>,
                               .cross_entropy = cross_entropy<T>,
                               .softmax = softmax<T>,
                               .combine = combine<T>,
                               .combine_backward = combine_backward<T>,
                               .square_sum = square_sum<T>,
                               .adamw = adamw<T>};

}  // namespace

extern const Kernels<float> SWITCHYARD_CONCAT(kFloat_, SWITCHYARD_ISA);
extern const Kernels<double> SWITCHYARD_CONCAT(kDouble_, SWITCHYARD_ISA);
extern const Kernels<Bf16> SWITCHYARD_CONCAT(kBf16_, SWITCHYARD_ISA);
const Kernels<float> SWITCHYARD_CONCAT(kFloat_, SWITCHYARD_ISA) = kTable<float>;
const Kernels<double> SWITCHYARD_CONCAT(kDouble_, SWITCHYARD_ISA) = kTable<double>;
const Kernels<Bf16> SWITCHYARD_CONCAT(kBf16_, SWITCHYARD_ISA) = kTable<Bf16>;

}  // namespace switchyard::kernels
