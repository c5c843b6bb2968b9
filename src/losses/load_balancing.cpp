#include "losses/load_balancing.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ops/fused.h"

namespace switchyard {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Losses of every layer and step, each one operation forward and one backward: in a small model it is their number that
// takes time. On the CPU, [T, E] and [E] of one type.

// E * sum_e load_e * mean_t p_te.
struct LoadBalancingLoss : torch::autograd::Function<LoadBalancingLoss> {
  static Tensor forward(AutogradContext* context, const Tensor& probabilities_any, const Tensor& load) {
    const Tensor probabilities = probabilities_any.contiguous();
    const int64_t experts = load.size(0);
    Tensor loss = torch::empty({}, probabilities.options());
    with_wide_type(probabilities, [&]<class T>(T) {
      // By blocks of tokens, so that threads don't change bits.
      constexpr int64_t kTokens = 64;
      const int64_t blocks = (probabilities.size(0) + kTokens - 1) / kTokens;
      std::vector<T> partial(static_cast<size_t>(blocks * experts), T(0));
      parallel_rows(blocks, kTokens * experts, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin * kTokens; t < std::min(end * kTokens, probabilities.size(0)); ++t) {
          const T* p = input<T>(probabilities) + t * experts;
          T* sums = partial.data() + t / kTokens * experts;
          for (int64_t e = 0; e < experts; ++e) sums[e] += p[e];
        }
      });
      std::vector<double> sums(static_cast<size_t>(experts), 0.0);
      for (size_t i = 0; i < partial.size(); ++i) {
        sums[i % static_cast<size_t>(experts)] += static_cast<double>(partial[i]);
      }
      double sum = 0;
      for (int64_t e = 0; e < experts; ++e)
        sum += sums[static_cast<size_t>(e)] * static_cast<double>(input<T>(load)[e]);
      *output<T>(loss) =
          static_cast<T>(sum * static_cast<double>(experts) / static_cast<double>(probabilities.size(0)));
    });
    context->save_for_backward({load});
    context->saved_data["tokens"] = probabilities.size(0);
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor load = context->get_saved_variables()[0];
    const int64_t tokens = context->saved_data["tokens"].toInt();
    const double scale = gradients[0].item<double>() * static_cast<double>(load.size(0)) / static_cast<double>(tokens);
    return {(load * scale).expand({tokens, -1}), Tensor()};
  }
};

// The mean of logsumexp(logits)^2.
struct RouterZLoss : torch::autograd::Function<RouterZLoss> {
  static Tensor forward(AutogradContext* context, const Tensor& logits_any) {
    const Tensor logits = logits_any.contiguous();
    const Tensor probabilities = torch::empty_like(logits);
    const Tensor log_sums = torch::empty({logits.size(0)}, logits.options());
    Tensor loss = torch::empty({}, logits.options());
    with_wide_type(logits, [&]<class T>(T) {
      const int64_t experts = logits.size(1);
      parallel_rows(logits.size(0), experts, [&](int64_t begin, int64_t end) {
        kernels::kernels<T>().softmax(input<T>(logits) + begin * experts, output<T>(probabilities) + begin * experts,
                                      output<T>(log_sums) + begin, end - begin, experts);
      });
      double sum = 0;
      for (int64_t t = 0; t < logits.size(0); ++t) {
        const auto log_sum = static_cast<double>(input<T>(log_sums)[t]);
        sum += log_sum * log_sum;
      }
      *output<T>(loss) = static_cast<T>(sum / static_cast<double>(logits.size(0)));
    });
    context->save_for_backward({probabilities, log_sums});
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& probabilities = saved[0];
    const Tensor& log_sums = saved[1];
    const double scale = 2 * gradients[0].item<double>() / static_cast<double>(log_sums.numel());
    const Tensor d_logits = torch::empty_like(probabilities);
    with_wide_type(probabilities, [&]<class T>(T) {
      const int64_t experts = probabilities.size(1);
      parallel_rows(probabilities.size(0), experts, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const T factor = input<T>(log_sums)[t] * static_cast<T>(scale);
          const T* p = input<T>(probabilities) + t * experts;
          T* d = output<T>(d_logits) + t * experts;
          for (int64_t e = 0; e < experts; ++e) d[e] = p[e] * factor;
        }
      });
    });
    return {d_logits};
  }
};

bool takes_loop(const Tensor& x) {
  return x.device().is_cpu() && x.dim() == 2 && x.numel() > 0 &&
         (x.scalar_type() == torch::kFloat32 || x.scalar_type() == torch::kFloat64);
}

}  // namespace

Tensor load_balancing_loss(const Tensor& probabilities, const Tensor& load) {
  if (takes_loop(probabilities) && !load.requires_grad() && load.scalar_type() == probabilities.scalar_type()) {
    return LoadBalancingLoss::apply(probabilities, load.contiguous());
  }
  return static_cast<double>(load.size(0)) * (load * probabilities.mean(0)).sum();
}

Tensor sequence_load_balancing_loss(const Tensor& probabilities, const Tensor& load) {
  const Tensor mean = probabilities.view({load.size(0), -1, load.size(1)}).mean(1);
  return static_cast<double>(load.size(1)) * (load * mean).sum(1).mean();
}

Tensor router_z_loss(const Tensor& logits) {
  if (takes_loop(logits)) return RouterZLoss::apply(logits);
  return torch::logsumexp(logits, -1).square().mean();
}

Tensor load_from_counts(const Tensor& counts, torch::ScalarType type) {
  const Tensor wide = counts.to(type);
  return wide / wide.sum(-1, /*keepdim=*/true).clamp_min(1);
}

Tensor variation_loss(const Tensor& values) {
  return static_cast<double>(values.size(0)) * values.square().sum() / values.sum().square();
}

Tensor budget_loss(const Tensor& smooth_experts, double target) {
  return 1 + (smooth_experts.mean() / target - 1).square();
}

}  // namespace switchyard
