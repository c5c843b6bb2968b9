// What a feed-forward does between its two products. Included by kernels_impl.cpp only, see there.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/scalars_impl.h"

namespace switchyard::kernels {
namespace {

// f(x) and f'(x).
template <class A>
struct Slope {
  A value;
  A derivative;
};

template <Nonlinearity kind, class A>
inline Slope<A> nonlinear(A x) {
  if constexpr (kind == Nonlinearity::kRelu) {
    return {x < A(0) ? A(0) : x, x > A(0) ? A(1) : A(0)};
  } else if constexpr (kind == Nonlinearity::kSilu) {
    const A s = sigmoid(x);
    return {x * s, s * (A(1) + x * (A(1) - s))};
  } else {
    // (1 + tanh(u)) / 2 is the sigmoid of 2u.
    constexpr A kScale = A(1.5957691216057308);  // 2 sqrt(2/pi)
    constexpr A kCubic = A(0.044715);
    const A s = sigmoid(kScale * (x + kCubic * x * x * x));
    return {x * s, s + x * s * (A(1) - s) * kScale * (A(1) + 3 * kCubic * x * x)};
  }
}

template <Nonlinearity kind, bool kGated, class T>
void activation_rows(const T* hidden, T* y, int64_t rows, int64_t width) {
  const int64_t stride = kGated ? 2 * width : width;
  for (int64_t row = 0; row < rows; ++row, hidden += stride, y += width) {
    const T* up = hidden + width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const Acc<T> value = nonlinear<kind>(load(hidden[i])).value;
      if constexpr (kGated) {
        store(&y[i], value * load(up[i]));
      } else {
        store(&y[i], value);
      }
    }
  }
}

template <Nonlinearity kind, bool kGated, class T>
void activation_rows_backward(const T* hidden, const T* dy, T* d_hidden, T* y, int64_t rows, int64_t width) {
  using A = Acc<T>;
  const int64_t stride = kGated ? 2 * width : width;
  for (int64_t row = 0; row < rows; ++row, hidden += stride, d_hidden += stride, dy += width, y += width) {
    const T* ups = hidden + width;
    T* d_up = d_hidden + width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const Slope<A> f = nonlinear<kind>(load(hidden[i]));
      const A gradient = load(dy[i]);
      if constexpr (kGated) {
        const A up = load(ups[i]);
        store(&y[i], f.value * up);
        store(&d_up[i], gradient * f.value);
        store(&d_hidden[i], gradient * up * f.derivative);
      } else {
        store(&y[i], f.value);
        store(&d_hidden[i], gradient * f.derivative);
      }
    }
  }
}

// Calls f.operator()<kind, gated>().
template <class F>
void with_activation(Nonlinearity kind, bool gated, const F& f) {
  const auto of = [&]<Nonlinearity k>() {
    gated ? f.template operator()<k, true>() : f.template operator()<k, false>();
  };
  switch (kind) {
    case Nonlinearity::kSilu:
      return of.template operator()<Nonlinearity::kSilu>();
    case Nonlinearity::kGelu:
      return of.template operator()<Nonlinearity::kGelu>();
    case Nonlinearity::kRelu:
      return of.template operator()<Nonlinearity::kRelu>();
  }
}

template <class T>
void activation_forward(Nonlinearity kind, bool gated, const T* hidden, T* y, int64_t rows, int64_t width) {
  with_activation(kind, gated, [&]<Nonlinearity k, bool g>() { activation_rows<k, g>(hidden, y, rows, width); });
}

template <class T>
void activation_backward(Nonlinearity kind, bool gated, const T* hidden, const T* dy, T* d_hidden, T* y, int64_t rows,
                         int64_t width) {
  with_activation(kind, gated, [&]<Nonlinearity k, bool g>() {
    activation_rows_backward<k, g>(hidden, dy, d_hidden, y, rows, width);
  });
}

}  // namespace
}  // namespace switchyard::kernels
