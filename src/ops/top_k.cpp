#include "ops/top_k.h"

#include <limits>
#include <numeric>

#include "ops/fused.h"

namespace switchyard {
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

}  // namespace

torch::Tensor top_k_indices(const torch::Tensor& scores_any, int64_t top_k) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor scores = scores_any.detach().contiguous();
  TORCH_CHECK_VALUE(top_k >= 1 && top_k <= scores.size(1), "top_k_indices: k ", top_k, " of ", scores.size(1));
  if (!scores.device().is_cpu()) {
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
