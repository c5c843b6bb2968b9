// A whole matrix product on the tiles of products_impl.h. Included by kernels_impl.cpp only, see there.
//
// The right operand is packed panel by panel, each as wide as a tile, so that a tile reads it from front to back; the
// left one in blocks of rows. (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication".)
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/products_impl.h"
#include "ops/kernels/scalars_impl.h"

namespace switchyard::kernels {
namespace {

// Rows of a block of the left operand.
constexpr int64_t kBlockRows = 96;
// Words along the summed dimension that go through a tile before the next tile: a panel of so many stays in the cache.
constexpr int64_t kBlockSteps = 512;
// Bytes of the right operand that are packed at a time, about.
constexpr int64_t kPackedBytes = 1 << 20;

template <class T>
constexpr int64_t kPanelColumns = 4 * kLanes<Acc<T>>;

template <class T>
struct ProductScratch {
  Word<T>* right;   // panels [words(k), columns of the panel], one behind the other
  Word<T>* left;    // [rows, words(k)], or [words(k), kBlockRows] where a is transposed
  Acc<T>* sums;     // [kBlockRows, kPanelColumns]
  int64_t columns;  // of `right`: whole panels or all of n, rounded up to whole vectors
  size_t bytes = 0;

  ProductScratch(const ProductShape& shape, void* memory) {
    const int64_t steps = words<T>(shape.k);
    const int64_t fitting = kPackedBytes / (larger(steps, 1) * static_cast<int64_t>(sizeof(Word<T>)));
    const int64_t most = larger(1, fitting / kPanelColumns<T>) * kPanelColumns<T>;
    const int64_t all = round_up_to(shape.n, kLanes<Acc<T>>);
    columns = all < most ? all : most;
    ScratchPieces pieces{memory};
    pieces.take(right, steps * columns);
    pieces.take(left, kBlockRows * steps);
    pieces.take(sums, kBlockRows * kPanelColumns<T>);
    bytes = pieces.bytes;
  }
};

template <class T>
size_t product_scratch(const ProductShape& shape) {
  return ProductScratch<T>(shape, nullptr).bytes;
}

// Columns [begin, begin + count) of b as panels.
template <class T>
void pack_panels(const ProductShape& shape, const T* b, int64_t begin, int64_t count, Word<T>* right) {
  for (int64_t done = 0; done < count; done += kPanelColumns<T>) {
    const int64_t here = count - done < kPanelColumns<T> ? count - done : kPanelColumns<T>;
    const int64_t columns = round_up_to(here, kLanes<Acc<T>>);
    if (shape.form == ProductForm::kTransposedB) {
      pack_right_transposed(b + (begin + done) * shape.b_stride, shape.b_stride, here, shape.k, columns, right);
    } else {
      pack_right(b + begin + done, shape.b_stride, shape.k, here, columns, right);
    }
    right += words<T>(shape.k) * columns;
  }
}

// Rows [begin, begin + rows) of a.
template <class T>
Left<T> pack_rows(const ProductShape& shape, const T* a, int64_t begin, int64_t rows, Word<T>* left) {
  if (shape.form == ProductForm::kTransposedA) {
    pack_right(a + begin, shape.a_stride, shape.k, rows, rows, left);
    return {left, 1, rows};
  }
  pack_left(a + begin * shape.a_stride, shape.a_stride, rows, shape.k, left);
  return {left, words<T>(shape.k), 1};
}

// Sums [rows, columns], with the bias, as T: [rows, count], rows out_stride apart.
template <class T>
void store_rows(const Acc<T>* sums, int64_t columns, const T* bias, T* out, int64_t out_stride, int64_t rows,
                int64_t count) {
  for (int64_t r = 0; r < rows; ++r, sums += columns, out += out_stride) {
    if (bias == nullptr) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) store(&out[i], sums[i]);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) store(&out[i], sums[i] + load(bias[i]));
    }
  }
}

// A block of rows times one panel.
template <class T>
void multiply_panel(const Left<T>& left, const Word<T>* panel, Acc<T>* sums, int64_t rows, int64_t columns,
                    int64_t steps) {
  for (int64_t k = 0; k == 0 || k < steps; k += kBlockSteps) {
    const int64_t count = steps - k < kBlockSteps ? steps - k : kBlockSteps;
    multiply<T>({left.data + k * left.step, left.row, left.step}, panel + k * columns, columns, sums, columns, rows,
                columns, count, /*add=*/k > 0);
  }
}

// Sums [rows, columns], added to out.
template <class A>
void add_rows(const A* sums, int64_t columns, A* out, int64_t out_stride, int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; ++r, sums += columns, out += out_stride) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[i] += sums[i];
  }
}

// Calls f(sums [rows, columns], columns, first row, first column, rows, columns of out) for every block of the product.
template <class T, class F>
void for_each_block(const ProductShape& shape, const T* a, const T* b, void* memory, const F& f) {
  const ProductScratch<T> at(shape, memory);
  const int64_t steps = words<T>(shape.k);
  for (int64_t first = 0; first < shape.n; first += at.columns) {
    const int64_t chunk = shape.n - first < at.columns ? shape.n - first : at.columns;
    pack_panels(shape, b, first, chunk, at.right);
    for (int64_t row = 0; row < shape.m; row += kBlockRows) {
      const int64_t rows = shape.m - row < kBlockRows ? shape.m - row : kBlockRows;
      const Left<T> left = pack_rows(shape, a, row, rows, at.left);
      const Word<T>* panel = at.right;
      for (int64_t done = 0; done < chunk; done += kPanelColumns<T>) {
        const int64_t here = chunk - done < kPanelColumns<T> ? chunk - done : kPanelColumns<T>;
        const int64_t columns = round_up_to(here, kLanes<Acc<T>>);
        multiply_panel<T>(left, panel, at.sums, rows, columns, steps);
        f(at.sums, columns, row, first + done, rows, here);
        panel += steps * columns;
      }
    }
  }
}

template <class T>
void product(const ProductShape& shape, const T* a, const T* b, const T* bias, T* out, void* scratch) {
  for_each_block(shape, a, b, scratch,
                 [&](const Acc<T>* sums, int64_t width, int64_t row, int64_t column, int64_t rows, int64_t columns) {
                   store_rows(sums, width, bias == nullptr ? nullptr : bias + column,
                              out + row * shape.out_stride + column, shape.out_stride, rows, columns);
                 });
}

template <class T>
void product_add(const ProductShape& shape, const T* a, const T* b, Acc<T>* out, void* scratch) {
  for_each_block(shape, a, b, scratch,
                 [&](const Acc<T>* sums, int64_t width, int64_t row, int64_t column, int64_t rows, int64_t columns) {
                   add_rows(sums, width, out + row * shape.out_stride + column, shape.out_stride, rows, columns);
                 });
}

}  // namespace
}  // namespace switchyard::kernels
