#include "ops/rms_norm.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ops/fused.h"

namespace switchyard {
namespace {

using torch::Tensor;

// The weight's gradient is summed in this many pieces whatever the number of threads, so that its bits do not depend
// on it.
constexpr int64_t kWeightGradientPieces = 16;

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& input_x, const Tensor& weight,
                        double eps) {
    const Tensor x = input_x.contiguous();
    const int64_t dim = x.size(-1);
    const int64_t rows = x.numel() / dim;
    Tensor y = torch::empty_like(x);
    Tensor rstd = torch::empty({rows}, x.options().dtype(accumulate_type(x)));
    with_element_type(x, [&]<class T>(T) {
      using A = kernels::Acc<T>;
      parallel_rows(rows, dim, [&](int64_t begin, int64_t end) {
        kernels::kernels<T>().rms_norm_forward(input<T>(x) + begin * dim, input<A>(weight), output<T>(y) + begin * dim,
                                               output<A>(rstd) + begin, end - begin, dim, eps);
      });
    });
    context->save_for_backward({x, weight, rstd});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    const Tensor& weight = saved[1];
    const Tensor& rstd = saved[2];
    const Tensor dy = gradients[0].contiguous();
    const int64_t dim = x.size(-1);
    const int64_t rows = x.numel() / dim;
    const int64_t pieces = std::min(kWeightGradientPieces, std::max<int64_t>(rows, 1));
    Tensor dx = torch::empty_like(x);
    Tensor partial = torch::zeros({pieces, dim}, rstd.options());
    with_element_type(x, [&]<class T>(T) {
      using A = kernels::Acc<T>;
      parallel_rows(pieces, rows * dim / pieces, [&](int64_t first, int64_t last) {
        for (int64_t piece = first; piece < last; ++piece) {
          const int64_t begin = rows * piece / pieces;
          const int64_t end = rows * (piece + 1) / pieces;
          kernels::kernels<T>().rms_norm_backward(input<T>(dy) + begin * dim, input<T>(x) + begin * dim,
                                                  input<A>(weight), input<A>(rstd) + begin, output<T>(dx) + begin * dim,
                                                  output<A>(partial) + piece * dim, end - begin, dim);
        }
      });
    });
    return {dx, partial.sum(0), Tensor()};
  }
};

}  // namespace

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  TORCH_CHECK_VALUE(x.size(-1) == weight.size(0), "rms_norm: x has ", x.size(-1), " features, weight ", weight.size(0));
  if (!has_fused_kernel(x)) return rms_norm_reference(x, weight, eps);
  return RmsNorm::apply(x, weight.to(accumulate_type(x)).contiguous(), eps);
}

torch::Tensor rms_norm_reference(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  const auto type = accumulate_type(x);
  const torch::Tensor wide = x.to(type);
  const torch::Tensor rstd = (wide.square().mean(-1, /*keepdim=*/true) + eps).rsqrt();
  return (wide * rstd * weight.to(type)).to(x.scalar_type());
}

}  // namespace switchyard
