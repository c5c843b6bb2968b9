#include "ops/top_k.h"

#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <numeric>

#include "ops/cuda/operations.h"
#include "ops/fused.h"

namespace switchyard {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Beyond this many passes (their cost grows with K), sorting the first K is faster.
constexpr int64_t kMostPasses = 16;

// The same by sorting. `order` has room for `count` indices.
template <class T>
void sort_row(const T* scores, int64_t count, int64_t top_k, int64_t* order, int64_t* chosen) {
  std::iota(order, order + count, int64_t{0});
  std::partial_sort(order, order + top_k, order + count, [&](int64_t a, int64_t b) {
    if (scores[a] > scores[b]) return true;
    if (scores[a] < scores[b]) return false;
    const bool a_nan = std::isnan(scores[a]);
    const bool b_nan = std::isnan(scores[b]);
    return a_nan == b_nan ? a < b : b_nan;
  });
  std::copy(order, order + top_k, chosen);
}

// K passes of a linear search: for the few experts of a router this beats sorting. NaN counts as smallest, so a
// diverged router still yields valid, distinct indices (and its loss is found to be not finite). `left` has room for a
// copy of the scores, from which what was chosen is taken out.
template <class T>
void select_row(const T* scores, int64_t count, int64_t top_k, T* left, int64_t* chosen) {
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  std::copy(scores, scores + count, left);
  int64_t done = 0;
  for (; done < top_k; ++done) {
    T most = kNone;
    int64_t best = -1;
    for (int64_t i = 0; i < count; ++i) {
      const bool more = left[i] > most;
      most = more ? left[i] : most;
      best = more ? i : best;
    }
    if (best < 0) break;
    chosen[done] = best;
    left[best] = kNone;
  }
  // Where only -infinity and NaN are left.
  for (int64_t k = done; k < top_k; ++k) {
    int64_t best = -1;
    for (int64_t i = 0; i < count; ++i) {
      if (std::find(chosen, chosen + k, i) != chosen + k) continue;
      if (best < 0 || scores[i] > scores[best] || (std::isnan(scores[best]) && !std::isnan(scores[i]))) best = i;
    }
    chosen[k] = best;
  }
}

void check_top_k(const torch::Tensor& scores, int64_t top_k) {
  TORCH_CHECK_VALUE(top_k >= 1 && top_k <= scores.size(1), "top_k_indices: k ", top_k, " of ", scores.size(1));
}

struct SoftmaxTopKOnDevice : torch::autograd::Function<SoftmaxTopKOnDevice> {
  static variable_list forward(AutogradContext* context, const torch::Tensor& logits, int64_t top_k) {
    const cuda::Chosen chosen = cuda::top_k(logits, top_k, /*softmax=*/true);
    context->save_for_backward({chosen.probabilities});
    context->mark_non_differentiable({chosen.ids, chosen.counts});
    return {chosen.probabilities, chosen.ids, chosen.counts};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const torch::Tensor probabilities = context->get_saved_variables()[0];
    return {at::_softmax_backward_data(gradients[0], probabilities, 1, probabilities.scalar_type()), torch::Tensor()};
  }
};

}  // namespace

SoftmaxTopK softmax_top_k(const torch::Tensor& logits, int64_t top_k) {
  check_top_k(logits, top_k);
  if (logits.is_cpu() || !cuda::takes_top_k(logits)) {
    return {torch::softmax(logits, -1), top_k_indices(logits, top_k), torch::Tensor()};
  }
  const variable_list chosen = SoftmaxTopKOnDevice::apply(logits, top_k);
  return {chosen[0], chosen[1], chosen[2]};
}

torch::Tensor top_k_indices(const torch::Tensor& scores_any, int64_t top_k) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor scores = scores_any.detach().contiguous();
  check_top_k(scores, top_k);
  if (!scores.is_cpu()) {
    if (cuda::takes_top_k(scores)) return cuda::top_k(scores, top_k, /*softmax=*/false).ids;
    return std::get<1>(scores.sort(/*stable=*/true, 1, /*descending=*/true)).narrow(1, 0, top_k).contiguous();
  }
  torch::Tensor chosen = torch::empty({scores.size(0), top_k}, torch::kInt64);
  AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "top_k_indices", [&] {
    const int64_t count = scores.size(1);
    parallel_rows(scores.size(0), count * top_k, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> left(static_cast<size_t>(count));
      std::vector<int64_t> order(static_cast<size_t>(top_k > kMostPasses ? count : 0));
      for (int64_t row = begin; row < end; ++row) {
        const scalar_t* from = input<scalar_t>(scores) + row * count;
        int64_t* to = output<int64_t>(chosen) + row * top_k;
        if (top_k > kMostPasses) {
          sort_row(from, count, top_k, order.data(), to);
        } else {
          select_row(from, count, top_k, left.data(), to);
        }
      }
    });
  });
  return chosen;
}

}  // namespace switchyard
