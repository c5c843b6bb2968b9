#include "ops/permutation.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cstring>

#include "ops/cuda/operations.h"
#include "ops/fused.h"

namespace switchyard {

using torch::Tensor;

namespace {

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// How many choices each expert keeps.
std::vector<int64_t> count_choices(const Tensor& ids, int64_t num_experts, const bool* kept) {
  std::vector<int64_t> counts(static_cast<size_t>(num_experts), 0);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    TORCH_CHECK_INDEX(id[i] >= 0 && id[i] < num_experts, "order_by_expert: expert ", id[i], " of ", num_experts);
    if (kept == nullptr || kept[i]) ++counts[static_cast<size_t>(id[i])];
  }
  return counts;
}

// Counting sort on the host.
ExpertOrder order_on_cpu(const Tensor& expert_ids, int64_t num_experts, const Tensor& kept_any, RowCount count) {
  const Tensor ids = expert_ids.contiguous();
  const Tensor kept_tensor = kept_any.defined() ? kept_any.contiguous() : kept_any;
  const bool* kept = kept_any.defined() ? kept_tensor.const_data_ptr<bool>() : nullptr;
  const std::vector<int64_t> counts = count_choices(ids, num_experts, kept);
  const int64_t alignment = count == RowCount::kAligned ? row_alignment(ids.numel(), num_experts) : 1;
  ExpertOrder order;
  order.offsets = torch::empty({num_experts}, torch::kInt64);
  std::vector<int64_t> next;
  for (size_t e = 0; e < counts.size(); ++e) {
    next.push_back(order.num_rows);
    order.num_rows += round_up(counts[e], alignment);
    output<int64_t>(order.offsets)[e] = order.num_rows;
  }
  order.row_of_choice = torch::empty_like(ids);
  order.choice_of_row = torch::full({order.num_rows}, -1, torch::kInt64);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    const int64_t row = kept == nullptr || kept[i] ? next[static_cast<size_t>(id[i])]++ : -1;
    output<int64_t>(order.row_of_choice)[i] = row;
    if (row >= 0) output<int64_t>(order.choice_of_row)[row] = i;
  }
  return order;
}

// Sets the rows that belong to no choice to zero.
void clear_padding(const Tensor& rows, const Tensor& choice_of_row) {
  const auto row_bytes = static_cast<size_t>(rows.size(1)) * rows.element_size();
  auto* bytes = static_cast<char*>(rows.mutable_data_ptr());
  const int64_t* choice = choice_of_row.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows.size(0); ++row) {
    if (choice[row] < 0) std::memset(bytes + static_cast<size_t>(row) * row_bytes, 0, row_bytes);
  }
}

// rows[n] = x[choice_of_row[n] / K], zero where that is -1.
Tensor gather_rows(const Tensor& x_any, const Tensor& choice_of_row, int64_t top_k) {
  if (!x_any.is_cpu()) return cuda::gather_rows(x_any, choice_of_row, top_k);
  const Tensor x = x_any.contiguous();
  const Tensor rows = torch::empty({choice_of_row.size(0), x.size(1)}, x.options());
  const auto row_bytes = static_cast<size_t>(x.size(1)) * x.element_size();
  const auto* from = static_cast<const char*>(x.const_data_ptr());
  auto* to = static_cast<char*>(rows.mutable_data_ptr());
  const int64_t* choice = choice_of_row.const_data_ptr<int64_t>();
  parallel_rows(rows.size(0), x.size(1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      char* target = to + static_cast<size_t>(row) * row_bytes;
      if (choice[row] < 0) {
        std::memset(target, 0, row_bytes);
      } else {
        std::memcpy(target, from + static_cast<size_t>(choice[row] / top_k) * row_bytes, row_bytes);
      }
    }
  });
  return rows;
}

// out[t] = sum over k of weights[t, k] * rows[row_of_choice[t, k]], -1 skipped; weights undefined: all one.
Tensor sum_rows(const Tensor& rows, const Tensor& row_of_choice, const Tensor& weights) {
  if (!rows.is_cpu()) return cuda::sum_rows(rows, row_of_choice, weights);
  const int64_t top_k = row_of_choice.size(1);
  const int64_t dim = rows.size(1);
  Tensor out = torch::empty({row_of_choice.size(0), dim}, rows.options());
  with_element_type(rows, [&]<class T>(T) {
    using A = kernels::Acc<T>;
    parallel_rows(out.size(0), dim * top_k, [&](int64_t begin, int64_t end) {
      kernels::kernels<T>().combine(input<T>(rows), input<int64_t>(row_of_choice) + begin * top_k,
                                    weights.defined() ? input<A>(weights) + begin * top_k : nullptr,
                                    output<T>(out) + begin * dim, end - begin, top_k, dim);
    });
  });
  return out;
}

// The gradients of sum_rows in rows and weights.
std::array<Tensor, 2> sum_rows_backward(const Tensor& rows, const Tensor& weights, const Tensor& row_of_choice,
                                        const Tensor& choice_of_row, const Tensor& dy) {
  if (!rows.is_cpu()) return cuda::sum_rows_backward(rows, weights, choice_of_row, dy);
  const int64_t top_k = row_of_choice.size(1);
  const int64_t dim = rows.size(1);
  Tensor d_rows = torch::empty_like(rows);
  clear_padding(d_rows, choice_of_row);
  Tensor d_weights = torch::empty_like(weights);
  with_element_type(rows, [&]<class T>(T) {
    using A = kernels::Acc<T>;
    parallel_rows(dy.size(0), dim * top_k, [&](int64_t begin, int64_t end) {
      kernels::kernels<T>().combine_backward(
          input<T>(rows), input<int64_t>(row_of_choice) + begin * top_k, input<A>(weights) + begin * top_k,
          input<T>(dy) + begin * dim, output<T>(d_rows), output<A>(d_weights) + begin * top_k, end - begin, top_k, dim);
    });
  });
  return {d_rows, d_weights};
}

struct PermuteTokens : torch::autograd::Function<PermuteTokens> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& row_of_choice,
                        const Tensor& choice_of_row) {
    context->save_for_backward({row_of_choice});
    return gather_rows(x, choice_of_row, row_of_choice.size(1));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const Tensor row_of_choice = context->get_saved_variables()[0];
    return {sum_rows(gradients[0].contiguous(), row_of_choice, /*weights=*/{}), Tensor(), Tensor()};
  }
};

struct CombineTokens : torch::autograd::Function<CombineTokens> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& rows_any, const Tensor& weights_any,
                        const Tensor& row_of_choice, const Tensor& choice_of_row) {
    const Tensor rows = rows_any.contiguous();
    const Tensor weights = weights_any.contiguous();
    context->save_for_backward({rows, weights, row_of_choice, choice_of_row});
    return sum_rows(rows, row_of_choice, weights);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto [d_rows, d_weights] =
        sum_rows_backward(saved[0], saved[1], saved[2], saved[3], gradients[0].contiguous());
    return {d_rows, d_weights, Tensor(), Tensor()};
  }
};

// Whether rows of this one's device and type are moved by kernels of ours.
bool has_row_kernel(const Tensor& x) { return has_fused_kernel(x) || (x.is_cuda() && has_kernel_type(x)); }

}  // namespace

int64_t row_alignment(int64_t num_choices, int64_t num_experts) {
  int64_t alignment = 1;
  while (alignment < 64 && alignment * 16 * num_experts <= num_choices) alignment *= 2;
  return alignment;
}

ExpertOrder order_by_expert(const Tensor& expert_ids, int64_t num_experts, const Tensor& kept, RowCount count) {
  const torch::NoGradGuard no_grad;
  return expert_ids.device().is_cpu() ? order_on_cpu(expert_ids, num_experts, kept, count)
                                      : cuda::order_by_expert(expert_ids, num_experts, kept);
}

Tensor permute_tokens(const Tensor& x, const ExpertOrder& order) {
  if (!has_row_kernel(x)) return permute_tokens_reference(x, order);
  return PermuteTokens::apply(x, order.row_of_choice, order.choice_of_row);
}

Tensor combine_tokens(const Tensor& rows, const Tensor& weights, const ExpertOrder& order) {
  if (!has_row_kernel(rows)) return combine_tokens_reference(rows, weights, order);
  return CombineTokens::apply(rows, weights.to(accumulate_type(rows)), order.row_of_choice, order.choice_of_row);
}

Tensor permute_tokens_reference(const Tensor& x, const ExpertOrder& order) {
  const Tensor tokens = torch::floor_divide(order.choice_of_row.clamp_min(0), order.row_of_choice.size(1));
  return torch::where((order.choice_of_row >= 0).unsqueeze(1), x.index_select(0, tokens),
                      torch::zeros({}, x.options()));
}

Tensor combine_tokens_reference(const Tensor& rows, const Tensor& weights, const ExpertOrder& order) {
  const auto type = accumulate_type(rows);
  const int64_t tokens = order.row_of_choice.size(0);
  const Tensor flat = order.row_of_choice.flatten();
  if (rows.size(0) == 0) return rows.new_zeros({tokens, rows.size(1)}) + 0 * weights.sum().to(rows.scalar_type());
  const Tensor kept = (order.row_of_choice >= 0).unsqueeze(-1);
  const Tensor chosen = rows.index_select(0, flat.clamp_min(0)).view({tokens, -1, rows.size(1)}).to(type);
  return torch::where(kept, chosen * weights.to(type).unsqueeze(-1), torch::zeros({}, chosen.options()))
      .sum(1)
      .to(rows.scalar_type());
}

}  // namespace switchyard
