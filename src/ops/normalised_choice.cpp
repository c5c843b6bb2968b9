#include "ops/normalised_choice.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ops/fused.h"

namespace switchyard {

using torch::Tensor;

namespace {

// Calls f(token) for every token.
template <class F>
void for_each_token(const Tensor& ids, const F& f) {
  parallel_rows(ids.size(0), 4 * ids.size(1), [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) f(token);
  });
}

struct NormalisedChoice : torch::autograd::Function<NormalisedChoice> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& shares_any, const Tensor& ids_any) {
    const Tensor shares = shares_any.contiguous();
    const Tensor ids = ids_any.contiguous();
    const int64_t experts = shares.size(1);
    const int64_t choices = ids.size(1);
    const Tensor weights = torch::empty({ids.size(0), choices}, shares.options());
    const Tensor sums = torch::empty({ids.size(0)}, shares.options());
    with_wide_type(shares, [&]<class T>(T) {
      for_each_token(ids, [&](int64_t token) {
        const T* share = input<T>(shares) + token * experts;
        const int64_t* id = input<int64_t>(ids) + token * choices;
        T* weight = output<T>(weights) + token * choices;
        T sum = 0;
        for (int64_t k = 0; k < choices; ++k) {
          TORCH_CHECK_INDEX(id[k] >= 0 && id[k] < experts, "normalised_choice: expert ", id[k], " of ", experts);
          weight[k] = share[id[k]];
          sum += weight[k];
        }
        for (int64_t k = 0; k < choices; ++k) weight[k] /= sum;
        output<T>(sums)[token] = sum;
      });
    });
    context->save_for_backward({ids, weights, sums});
    context->saved_data["experts"] = experts;
    return weights;
  }

  // d s_k = (d w_k - sum_j d w_j w_j) / sum.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& ids = saved[0];
    const Tensor& weights = saved[1];
    const Tensor d_weights = gradients[0].contiguous();
    const int64_t experts = context->saved_data["experts"].toInt();
    const int64_t choices = ids.size(1);
    const Tensor d_shares = torch::zeros({ids.size(0), experts}, weights.options());
    with_wide_type(weights, [&]<class T>(T) {
      for_each_token(ids, [&](int64_t token) {
        const T* weight = input<T>(weights) + token * choices;
        const T* d_weight = input<T>(d_weights) + token * choices;
        const int64_t* id = input<int64_t>(ids) + token * choices;
        T dot = 0;
        for (int64_t k = 0; k < choices; ++k) dot += weight[k] * d_weight[k];
        for (int64_t k = 0; k < choices; ++k) {
          output<T>(d_shares)[token * experts + id[k]] = (d_weight[k] - dot) / input<T>(saved[2])[token];
        }
      });
    });
    return {d_shares, Tensor()};
  }
};

}  // namespace

Tensor normalised_choice(const Tensor& shares, const Tensor& ids) {
  if (!shares.device().is_cpu()) return normalised_choice_reference(shares, ids);
  return NormalisedChoice::apply(shares, ids);
}

Tensor normalised_choice_reference(const Tensor& shares, const Tensor& ids) {
  const Tensor chosen = shares.gather(1, ids);
  return chosen / chosen.sum(-1, /*keepdim=*/true);
}

}  // namespace switchyard
