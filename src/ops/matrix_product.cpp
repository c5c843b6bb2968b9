#include "ops/matrix_product.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <new>
#include <string_view>

#include "ops/fused.h"

namespace switchyard {

using kernels::ProductForm;
using kernels::ProductShape;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Multiplications below which calling a library costs more than a product.
constexpr int64_t kFewestForLibrary = 1 << 20;

// Multiplications that are worth a thread: some microseconds, as waking it takes.
constexpr int64_t kFewestForThread = 1 << 20;

bool has_amx() {
#ifdef __x86_64__
  return __builtin_cpu_supports("amx-bf16");
#else
  return false;
#endif
}

// Up to this many rows a product takes as long as its weights take to arrive.
constexpr int64_t kFewRows = 4;

// Memory that a thread keeps for its products, on a cache line of its own.
void* scratch_of(size_t bytes) {
  struct Memory {
    void* place = nullptr;
    size_t bytes = 0;
    ~Memory() { std::free(place); }
  };
  thread_local Memory memory;
  if (memory.bytes < bytes) {
    std::free(memory.place);
    memory = {};
    memory.place = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory.place == nullptr) throw std::bad_alloc();
    memory.bytes = bytes;
  }
  return memory.place;
}

// The part of a product that computes rows [begin, end) of out, or with `by_columns` columns.
template <class T>
struct ProductPart {
  ProductShape shape;
  const T* a;
  const T* b;

  ProductPart(const ProductShape& whole, const void* a_data, const void* b_data, bool by_columns, int64_t begin,
              int64_t end)
      : shape(whole), a(static_cast<const T*>(a_data)), b(static_cast<const T*>(b_data)) {
    if (by_columns) {
      shape.n = end - begin;
      b += begin * (whole.form == ProductForm::kTransposedB ? whole.b_stride : 1);
    } else {
      shape.m = end - begin;
      a += begin * (whole.form == ProductForm::kTransposedA ? 1 : whole.a_stride);
    }
  }
};

ProductShape shape_of(const MatrixView& out, const MatrixView& a, const MatrixView& b, ProductForm form) {
  const int64_t k = form == ProductForm::kTransposedA ? a.rows : a.columns;
  return {form, out.rows, out.columns, k, a.columns, b.columns, out.columns};
}

Tensor tensor_of(torch::ScalarType type, const MatrixView& x) {
  return torch::from_blob(x.data, {x.rows, x.columns}, torch::TensorOptions(type));
}

void product_with_aten(torch::ScalarType type, const MatrixView& out_view, const MatrixView& a_view,
                       const MatrixView& b_view, ProductForm form, const void* bias) {
  Tensor out = tensor_of(type, out_view);
  const Tensor a = tensor_of(type, a_view);
  const Tensor b = tensor_of(type, b_view);
  const Tensor left = form == ProductForm::kTransposedA ? a.t() : a;
  const Tensor right = form == ProductForm::kTransposedB ? b.t() : b;
  if (bias == nullptr) {
    at::mm_out(out, left, right);
  } else {
    at::addmm_out(out, tensor_of(type, {const_cast<void*>(bias), 1, out_view.columns}), left, right);
  }
}

// Calls f(part, row, column of out where it begins) for the parts of a product, on several threads.
template <class T, class F>
void for_each_part(const ProductShape& shape, const MatrixView& a, const MatrixView& b, const F& f) {
  if (shape.m == 0 || shape.n == 0) return;
  // What is cut is packed once, the other operand once a thread.
  const bool by_columns = shape.n >= shape.m;
  const int64_t unit = by_columns ? 64 : 48;
  const int64_t size = by_columns ? shape.n : shape.m;
  const int64_t others = by_columns ? shape.m : shape.n;
  const int64_t fewest = kFewestForThread / std::max<int64_t>(1, others * shape.k * unit);
  at::parallel_for(0, (size + unit - 1) / unit, std::max<int64_t>(1, fewest), [&](int64_t first, int64_t last) {
    const int64_t begin = first * unit;
    const int64_t end = std::min(last * unit, size);
    f(ProductPart<T>(shape, a.data, b.data, by_columns, begin, end), by_columns ? 0 : begin, by_columns ? begin : 0);
  });
}

}  // namespace

int64_t threads_for(int64_t multiplications) {
  return std::clamp<int64_t>(multiplications / kFewestForThread, 1, at::get_num_threads());
}

bool has_product_loop(torch::ScalarType type) {
  static const bool avx512 = std::string_view(kernels::instruction_set()).starts_with("avx512");
  static const bool amx = has_amx();
  return type == torch::kBFloat16 ? !amx : avx512;
}

void product(torch::ScalarType type, const MatrixView& out, const MatrixView& a, const MatrixView& b, ProductForm form,
             const void* bias) {
  const ProductShape shape = shape_of(out, a, b, form);
  const bool few = form == ProductForm::kTransposedB && shape.m <= kFewRows;
  if (!few && !has_product_loop(type) && shape.m * shape.n * shape.k >= kFewestForLibrary) {
    return product_with_aten(type, out, a, b, form, bias);
  }
  with_type(type, [&]<class T>(T) {
    const auto& table = kernels::kernels<T>();
    const auto* biases = static_cast<const T*>(bias);
    auto* to = static_cast<T*>(out.data);
    if (few) {
      parallel_rows(shape.n, shape.k, [&](int64_t begin, int64_t end) {
        table.few_rows_product(static_cast<const T*>(a.data), static_cast<const T*>(b.data) + begin * shape.k,
                               bias == nullptr ? nullptr : biases + begin, to + begin, shape.m, end - begin, shape.k,
                               shape.n);
      });
      return;
    }
    for_each_part<T>(shape, a, b, [&](const ProductPart<T>& part, int64_t row, int64_t column) {
      table.product(part.shape, part.a, part.b, bias == nullptr ? nullptr : biases + column,
                    to + row * shape.out_stride + column, scratch_of(table.product_scratch(part.shape)));
    });
  });
}

void product_add(torch::ScalarType type, const MatrixView& out, const MatrixView& a, const MatrixView& b,
                 ProductForm form) {
  const ProductShape shape = shape_of(out, a, b, form);
  with_type(type, [&]<class T>(T) {
    const auto& table = kernels::kernels<T>();
    for_each_part<T>(shape, a, b, [&](const ProductPart<T>& part, int64_t row, int64_t column) {
      table.product_add(part.shape, part.a, part.b,
                        static_cast<kernels::Acc<T>*>(out.data) + row * shape.out_stride + column,
                        scratch_of(table.product_scratch(part.shape)));
    });
  });
}

namespace {

void product_of(Tensor& out, const Tensor& a, const Tensor& b, const Tensor& bias) {
  const bool a_transposed = !a.is_contiguous();
  const bool b_transposed = !b.is_contiguous();
  if (!has_fused_kernel(out) || (a_transposed && b_transposed)) {
    if (bias.defined()) {
      at::addmm_out(out, bias, a, b);
    } else {
      at::mm_out(out, a, b);
    }
    return;
  }
  TORCH_CHECK_VALUE(out.is_contiguous() && (!a_transposed || a.t().is_contiguous()) &&
                        (!b_transposed || b.t().is_contiguous()) && (!bias.defined() || bias.is_contiguous()),
                    "matrix_product: strides ", a.strides(), " and ", b.strides());
  if (a.size(1) == 0) {
    out.copy_(bias.defined() ? bias.expand_as(out) : torch::zeros({}, out.options()));
    return;
  }
  const ProductForm form = b_transposed   ? ProductForm::kTransposedB
                           : a_transposed ? ProductForm::kTransposedA
                                          : ProductForm::kPlain;
  product(out.scalar_type(), view_of(out), view_of(a, a_transposed), view_of(b, b_transposed), form,
          bias.defined() ? bias.const_data_ptr() : nullptr);
}

}  // namespace

void matrix_product_out(Tensor& out, const Tensor& a, const Tensor& b) { product_of(out, a, b, {}); }

Tensor matrix_product(const Tensor& a, const Tensor& b, const Tensor& bias) {
  Tensor out = torch::empty({a.size(0), b.size(1)}, a.options().requires_grad(false));
  product_of(out, a, b, bias);
  return out;
}

namespace {

// x [..., in] -> [N, in].
Tensor rows_of(const Tensor& x) { return x.contiguous().view({-1, x.size(-1)}); }
// [N, out] with x's other dimensions: [..., out].
Tensor shaped_as(const Tensor& rows, const Tensor& x) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = rows.size(1);
  return rows.view(shape);
}

// x [..., in], weight [out, in] and bias [out] of one type -> [..., out].
struct LinearMap : torch::autograd::Function<LinearMap> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const std::optional<Tensor>& bias) {
    const Tensor rows = rows_of(x);
    context->save_for_backward({rows, weight});
    context->saved_data["biased"] = bias.has_value();
    return shaped_as(matrix_product(rows, weight.t(), bias.value_or(Tensor())), x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor dy = rows_of(gradients[0]);
    const bool biased = context->saved_data["biased"].toBool();
    return {context->needs_input_grad(0) ? shaped_as(matrix_product(dy, saved[1]), gradients[0]) : Tensor(),
            context->needs_input_grad(1) ? matrix_product(dy.t(), saved[0]) : Tensor(), biased ? dy.sum(0) : Tensor()};
  }
};

}  // namespace

Tensor linear_map(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const auto type = x.scalar_type();
  return LinearMap::apply(x, weight.to(type).contiguous(), argument(bias.defined() ? bias.to(type) : bias));
}

}  // namespace switchyard
