#include "ops/matrix_product.h"

#include <ATen/Context.h>

#include "ops/fused.h"

// Exported by LibTorch, with no header in its packages.
namespace at::native {
TORCH_API void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta, float alpha);
}  // namespace at::native

namespace switchyard {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Multiplications from which on a call of oneDNN, which costs some ten microseconds, pays.
constexpr int64_t kFewestForOneDnn = 1 << 20;

bool takes_one_dnn(const Tensor& out, const Tensor& a) {
#ifdef __x86_64__
  // What oneDNN needs for its fast code, and its ATen wrapper for being called at all.
  static const bool fast = at::hasMKLDNN() && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  static const bool fast = false;
#endif
  return fast && out.device().is_cpu() && out.scalar_type() == torch::kFloat32 &&
         at::globalContext().userEnabledMkldnn() && out.numel() * a.size(-1) >= kFewestForOneDnn;
}

// Up to this many rows a product takes as long as its weights take to arrive.
constexpr int64_t kFewRows = 4;

// Whether it is a few rows times the transpose of weights.
bool is_of_few_rows(const Tensor& out, const Tensor& a, const Tensor& b) {
  return out.dim() == 2 && out.size(0) <= kFewRows && has_fused_kernel(out) && a.is_contiguous() &&
         b.t().is_contiguous() && out.is_contiguous();
}

void few_rows_product(Tensor& out, const Tensor& x, const Tensor& weight) {
  const int64_t count = weight.size(0);
  const int64_t width = weight.size(1);
  with_element_type(out, [&]<class T>(T) {
    parallel_rows(count, width, [&](int64_t begin, int64_t end) {
      kernels::kernels<T>().few_rows_product(input<T>(x), input<T>(weight) + begin * width, output<T>(out) + begin,
                                             x.size(0), end - begin, width, count);
    });
  });
}

}  // namespace

void matrix_product_out(Tensor& out, const Tensor& a, const Tensor& b) {
  if (is_of_few_rows(out, a, b)) {
    few_rows_product(out, a, b.t());
  } else if (takes_one_dnn(out, a)) {
    at::native::mkldnn_matmul(a, b, out, /*beta=*/0, /*alpha=*/1);
  } else if (out.dim() == 3) {
    at::bmm_out(out, a, b);
  } else {
    at::mm_out(out, a, b);
  }
}

Tensor matrix_product(const Tensor& a, const Tensor& b) {
  std::vector<int64_t> shape = a.sizes().vec();
  shape.back() = b.size(-1);
  Tensor out = torch::empty(shape, a.options().requires_grad(false));
  matrix_product_out(out, a, b);
  return out;
}

namespace {

// x [N, in], weight [out, in] of one type -> [N, out].
struct LinearMap : torch::autograd::Function<LinearMap> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight) {
    context->save_for_backward({x, weight});
    return matrix_product(x, weight.t());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor dy = gradients[0].contiguous();
    return {context->needs_input_grad(0) ? matrix_product(dy, saved[1]) : Tensor(),
            context->needs_input_grad(1) ? matrix_product(dy.t(), saved[0]) : Tensor()};
  }
};

}  // namespace

Tensor linear_map(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const auto type = x.scalar_type();
  const Tensor rows = x.reshape({-1, x.size(-1)});
  const Tensor y = LinearMap::apply(rows.contiguous(), weight.to(type).contiguous());
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return (bias.defined() ? y + bias.to(type) : y).view(shape);
}

}  // namespace switchyard
