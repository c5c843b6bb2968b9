#include "ops/linear_cross_entropy.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ops/block_sizes.h"
#include "ops/fused.h"
#include "ops/matrix_product.h"
#include "ops/soft_cap.h"

namespace switchyard {

using torch::Tensor;

namespace {

// The sum of the losses of one chunk; with `gradient`, `logits` becomes the gradient of `scale` times it.
Tensor chunk_loss(const Tensor& logits, const Tensor& targets, bool gradient, double scale) {
  Tensor losses = torch::empty({logits.size(0)}, logits.options().dtype(accumulate_type(logits)));
  const int64_t vocab = logits.size(1);
  with_element_type(logits, [&]<class T>(T) {
    parallel_rows(logits.size(0), vocab, [&](int64_t begin, int64_t end) {
      kernels::kernels<T>().cross_entropy(output<T>(logits) + begin * vocab, input<int64_t>(targets) + begin,
                                          output<kernels::Acc<T>>(losses) + begin, end - begin, vocab, gradient,
                                          static_cast<kernels::Acc<T>>(scale));
    });
  });
  return losses.sum();
}

// The same in ATen operations, times `scale` ([], on the device): the host knows nothing of the targets.
Tensor scaled_chunk_loss(Tensor logits, const Tensor& targets, const Tensor& scale, bool gradient) {
  const Tensor ignored = targets < 0;
  const Tensor target = targets.clamp_min(0).unsqueeze(1);
  const Tensor share = scale.expand_as(targets).masked_fill(ignored, 0);
  Tensor log_p = torch::log_softmax(logits, 1, accumulate_type(logits));
  const Tensor loss = (log_p.gather(1, target).squeeze(1).masked_fill(ignored, 0) * share).sum().neg();
  if (gradient) {
    Tensor d_logits = log_p.exp_();
    d_logits.scatter_add_(1, target, torch::full({}, -1, d_logits.options()).expand_as(target));
    logits.copy_(d_logits.mul_(share.unsqueeze(1)));
  }
  return loss;
}

// Caps `logits` in place. With `gradient`, returns d capped / d logit = 1 - tanh^2(logit / cap).
Tensor cap_logits(Tensor& logits, double cap, bool gradient) {
  const Tensor bounded = torch::tanh(logits.to(accumulate_type(logits)) / cap);
  logits.copy_(bounded * cap);
  return gradient ? (1 - bounded.square()).to(logits.scalar_type()) : Tensor();
}

// d_weight [V, D] += d_logits^T [V, N] hidden [N, D].
void add_weight_gradient(Tensor& d_weight, const Tensor& d_logits, const Tensor& hidden) {
  if (!hidden.is_cpu() || !has_product_loop(hidden.scalar_type())) {
    d_weight.add_(matrix_product(d_logits.t(), hidden));
    return;
  }
  product_add(hidden.scalar_type(), view_of(d_weight), view_of(d_logits), view_of(hidden),
              kernels::ProductForm::kTransposedA);
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& hidden_any, const Tensor& weight,
                        const Tensor& targets, std::optional<double> softcap, bool gradient, int64_t chunk,
                        bool by_aten) {
    const Tensor hidden = hidden_any.contiguous();
    const Tensor cast_weight = weight.to(hidden.scalar_type()).contiguous();
    const int64_t tokens = hidden.size(0);
    // One over the number of targets, which the host need not know by ATen.
    const Tensor counted = targets.ge(0).sum().clamp_min(1);
    const Tensor share = by_aten ? counted.to(accumulate_type(hidden)).reciprocal() : Tensor();
    const double scale = by_aten ? 1.0 : 1.0 / static_cast<double>(counted.item<int64_t>());
    Tensor loss = torch::zeros({}, hidden.options().dtype(accumulate_type(hidden)));
    Tensor d_hidden = gradient ? torch::empty_like(hidden) : Tensor();
    Tensor d_weight = gradient ? torch::zeros(weight.sizes(), loss.options()) : Tensor();
    Tensor logits = torch::empty({std::min(chunk, tokens), weight.size(0)}, hidden.options());
    for (int64_t begin = 0; begin < tokens; begin += chunk) {
      const int64_t count = std::min(chunk, tokens - begin);
      const Tensor rows = hidden.narrow(0, begin, count);
      Tensor part = logits.narrow(0, 0, count);
      matrix_product_out(part, rows, cast_weight.t());
      const Tensor slope = softcap ? cap_logits(part, *softcap, gradient) : Tensor();
      const Tensor own_targets = targets.narrow(0, begin, count);
      loss += by_aten ? scaled_chunk_loss(part, own_targets, share, gradient)
                      : chunk_loss(part, own_targets, gradient, scale);
      if (!gradient) continue;
      if (slope.defined()) part.mul_(slope);
      Tensor d_rows = d_hidden.narrow(0, begin, count);
      matrix_product_out(d_rows, part, cast_weight);
      add_weight_gradient(d_weight, part, rows);
    }
    if (gradient) context->save_for_backward({d_hidden, d_weight.to(weight.scalar_type())});
    return loss * scale;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& given = gradients[0];
    const bool one = given.is_cpu() && given.item<double>() == 1;
    // A product with a scalar on the CPU is rounded once; one on the device would be rounded to x's type before.
    const auto scaled = [&](const Tensor& x) {
      if (one) return x;
      return given.is_cpu() ? x * given : (x.to(given.scalar_type()) * given).to(x.scalar_type());
    };
    return {scaled(saved[0]), scaled(saved[1]), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor in_chunks(const Tensor& hidden, const Tensor& weight, const Tensor& targets, std::optional<double> softcap,
                 int64_t chunk_elements, bool by_aten) {
  const bool gradient = torch::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad());
  const int64_t chunk = std::max(kLogitsChunkRows, chunk_elements / weight.size(0));
  return LinearCrossEntropy::apply(hidden, weight, targets.contiguous(), softcap, gradient, chunk, by_aten);
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                            std::optional<double> softcap) {
  TORCH_CHECK_VALUE(hidden.dim() == 2 && hidden.size(1) == weight.size(1) && targets.numel() == hidden.size(0),
                    "linear_cross_entropy: hidden ", hidden.sizes(), ", weight ", weight.sizes(), " and targets ",
                    targets.sizes(), " do not fit together");
  if (!has_fused_kernel(hidden)) return linear_cross_entropy_on_device(hidden, weight, targets, softcap);
  // The loop reads logits[target] unchecked.
  TORCH_CHECK_INDEX(targets.numel() == 0 || targets.max().item<int64_t>() < weight.size(0),
                    "linear_cross_entropy: target ", targets.max().item<int64_t>(), " in a vocabulary of ",
                    weight.size(0));
  return in_chunks(hidden, weight, targets, softcap, kLogitsChunkElements, /*by_aten=*/false);
}

Tensor linear_cross_entropy_on_device(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                                      std::optional<double> softcap, int64_t chunk_elements) {
  return in_chunks(hidden, weight, targets, softcap, chunk_elements, /*by_aten=*/true);
}

Tensor linear_cross_entropy_reference(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                                      std::optional<double> softcap) {
  Tensor logits = torch::mm(hidden, weight.to(hidden.scalar_type()).t()).to(accumulate_type(hidden));
  if (softcap) logits = soft_cap(logits, *softcap);
  const Tensor sum = torch::cross_entropy_loss(logits, targets.masked_fill(targets < 0, -100), {}, at::Reduction::Sum);
  return sum / targets.ge(0).sum().clamp_min(1);
}

}  // namespace switchyard
