#include "ops/attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ops/block_sizes.h"
#include "ops/fused.h"
#include "ops/limited_attention.h"

namespace switchyard {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Copies between the joint layout [B, S, (H + 2G), hd] and three head-major tensors, rotating queries and keys where
// the table is defined.
template <class T>
void move_heads(const Tensor& joint, const std::array<Tensor, 3>& parts, const RotaryTable& table, bool to_parts) {
  using A = kernels::Acc<T>;
  const int64_t sequence = parts[0].size(2);
  const int64_t head_dim = parts[0].size(3);
  const int64_t all_heads = joint.size(2);
  const bool rotates = table.cos.defined();
  const A* cos = rotates ? input<A>(table.cos) : nullptr;
  const A* sin = rotates ? input<A>(table.sin) : nullptr;
  const bool per_sequence = rotates && table.cos.dim() == 3;
  parallel_rows(joint.size(0) * sequence, all_heads * head_dim, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / sequence;
      const int64_t s = row % sequence;
      T* joint_row = output<T>(joint) + row * all_heads * head_dim;
      for (size_t part = 0; part < 3; ++part) {
        const int64_t heads = parts[part].size(1);
        for (int64_t h = 0; h < heads; ++h, joint_row += head_dim) {
          T* part_row = output<T>(parts[part]) + ((b * heads + h) * sequence + s) * head_dim;
          const T* from = to_parts ? joint_row : part_row;
          T* to = to_parts ? part_row : joint_row;
          if (part == 2 || !rotates) {
            std::memcpy(static_cast<void*>(to), from, static_cast<size_t>(head_dim) * sizeof(T));
          } else {
            const int64_t angle = (per_sequence ? row : s) * head_dim / 2;
            kernels::kernels<T>().rotate(from, to, cos + angle, sin + angle, head_dim, to_parts ? 1 : -1);
          }
        }
      }
    }
  });
}

struct SplitHeads : torch::autograd::Function<SplitHeads> {
  static variable_list forward(AutogradContext* context, const Tensor& qkv, int64_t heads, int64_t kv_heads,
                               const std::optional<Tensor>& cos, const std::optional<Tensor>& sin) {
    const int64_t all_heads = heads + 2 * kv_heads;
    const int64_t head_dim = qkv.size(2) / all_heads;
    const Tensor joint = qkv.contiguous().view({qkv.size(0), qkv.size(1), all_heads, head_dim});
    const auto make = [&](int64_t count) {
      return torch::empty({qkv.size(0), count, qkv.size(1), head_dim}, qkv.options());
    };
    const std::array<Tensor, 3> parts = {make(heads), make(kv_heads), make(kv_heads)};
    const RotaryTable table = {cos.value_or(Tensor()), sin.value_or(Tensor())};
    with_element_type(qkv, [&]<class T>(T) { move_heads<T>(joint, parts, table, /*to_parts=*/true); });
    context->save_for_backward({table.cos, table.sin});
    return {parts[0], parts[1], parts[2]};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const std::array<Tensor, 3> parts = {gradients[0].contiguous(), gradients[1].contiguous(),
                                         gradients[2].contiguous()};
    const int64_t all_heads = parts[0].size(1) + parts[1].size(1) + parts[2].size(1);
    const Tensor joint =
        torch::empty({parts[0].size(0), parts[0].size(2), all_heads, parts[0].size(3)}, parts[0].options());
    with_element_type(joint, [&]<class T>(T) { move_heads<T>(joint, parts, {saved[0], saved[1]}, false); });
    return {joint.flatten(2), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// The sizes of one key/value head's attention, of contiguous query, key and value.
kernels::AttentionShape head_shape(const Tensor& query, const Tensor& key, const Tensor& value) {
  const int64_t sequence = query.size(2);
  return {.query_heads = query.size(1) / key.size(1),
          .sequence = sequence,
          .head_dim = query.size(3),
          .value_dim = value.size(3),
          .query_stride = sequence * query.size(3),
          .out_stride = query.size(1) * value.size(3),
          .scale = attention_scale(query)};
}

// Calls f(number of the key/value head, that head, where its part of [B, S, H vd] begins, of [B, H, S] begins, scratch)
// for all of them.
template <class T, class F>
void for_each_head(const kernels::AttentionShape& shape, const Tensor& query, const Tensor& key, const Tensor& value,
                   const F& f) {
  const int64_t kv_heads = key.size(1);
  const int64_t group_size = shape.query_heads * shape.query_stride;
  // Heads that are worth waking a thread for.
  const int64_t fewest = (1 << 20) / std::max<int64_t>(1, group_size * shape.sequence);
  at::parallel_for(0, key.size(0) * kv_heads, std::max<int64_t>(1, fewest), [&](int64_t first, int64_t last) {
    const Tensor scratch =
        torch::empty({static_cast<int64_t>(kernels::kernels<T>().attention_scratch(shape))}, torch::kUInt8);
    for (int64_t i = first; i < last; ++i) {
      const kernels::AttentionHead<T> head = {input<T>(query) + i * group_size,
                                              input<T>(key) + i * shape.sequence * shape.head_dim,
                                              input<T>(value) + i * shape.sequence * shape.value_dim};
      const int64_t out_begin =
          i / kv_heads * shape.sequence * shape.out_stride + i % kv_heads * shape.query_heads * shape.value_dim;
      f(i, head, out_begin, i * shape.query_heads * shape.sequence, scratch.mutable_data_ptr());
    }
  });
}

// query [B, H, S, hd], key [B, G, S, hd], value [B, G, S, vd] -> [B, S, H vd].
struct FusedAttention : torch::autograd::Function<FusedAttention> {
  static Tensor forward(AutogradContext* context, const Tensor& query_any, const Tensor& key_any,
                        const Tensor& value_any) {
    const Tensor query = query_any.contiguous();
    const Tensor key = key_any.contiguous();
    const Tensor value = value_any.contiguous();
    const auto shape = head_shape(query, key, value);
    const Tensor out = torch::empty({query.size(0), query.size(2), shape.out_stride}, query.options());
    const Tensor log_sums =
        torch::empty({query.size(0), query.size(1), query.size(2)}, query.options().dtype(accumulate_type(query)));
    with_element_type(query, [&]<class T>(T) {
      for_each_head<T>(shape, query, key, value,
                       [&](int64_t, const auto& head, int64_t out_begin, int64_t row_begin, void* scratch) {
                         kernels::kernels<T>().attention_forward(shape, head, output<T>(out) + out_begin,
                                                                 output<kernels::Acc<T>>(log_sums) + row_begin,
                                                                 scratch);
                       });
    });
    context->save_for_backward({query, key, value, log_sums});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& query = saved[0];
    const Tensor& key = saved[1];
    const Tensor& value = saved[2];
    const Tensor& log_sums = saved[3];
    const Tensor d_out = gradients[0].contiguous();
    const auto shape = head_shape(query, key, value);
    const Tensor d_query = torch::empty_like(query);
    const Tensor d_key = torch::empty_like(key);
    const Tensor d_value = torch::empty_like(value);
    with_element_type(query, [&]<class T>(T) {
      for_each_head<T>(shape, query, key, value,
                       [&](int64_t i, const auto& head, int64_t out_begin, int64_t row_begin, void* scratch) {
                         kernels::kernels<T>().attention_backward(
                             shape, head, input<kernels::Acc<T>>(log_sums) + row_begin, input<T>(d_out) + out_begin,
                             {output<T>(d_query) + i * shape.query_heads * shape.query_stride,
                              output<T>(d_key) + i * shape.sequence * shape.head_dim,
                              output<T>(d_value) + i * shape.sequence * shape.value_dim},
                             scratch);
                       });
    });
    return {d_query, d_key, d_value};
  }
};

// One query a head over the rows of a cache, without gradients. A head's keys are contiguous, heads need not be.
Tensor attention_of_one(const Tensor& query_any, const Tensor& key_any, const Tensor& value_any) {
  const auto with_rows = [](const Tensor& x) {
    return x.stride(3) == 1 && x.stride(2) == x.size(3) ? x : x.contiguous();
  };
  const Tensor query = query_any.contiguous();
  const Tensor key = with_rows(key_any);
  const Tensor value = with_rows(value_any);
  const int64_t kv_heads = key.size(1);
  const int64_t group = query.size(1) / kv_heads;
  const int64_t positions = key.size(2);
  const int64_t head_dim = key.size(3);
  const int64_t value_dim = value.size(3);
  const Tensor out = torch::empty({query.size(0), 1, query.size(1) * value_dim}, query.options());
  with_element_type(query, [&]<class T>(T) {
    using A = kernels::Acc<T>;
    parallel_rows(query.size(0) * kv_heads, group * positions * head_dim, [&](int64_t begin, int64_t end) {
      std::vector<A> scores(static_cast<size_t>(positions));
      for (int64_t i = begin; i < end; ++i) {
        const auto of = [&](const Tensor& x) {
          return input<T>(x) + i / kv_heads * x.stride(0) + i % kv_heads * x.stride(1);
        };
        kernels::kernels<T>().attention_of_one(input<T>(query) + i * group * head_dim, of(key), of(value), group,
                                               positions, head_dim, value_dim, attention_scale(query),
                                               output<T>(out) + i * group * value_dim, scores.data());
      }
    });
  });
  return out;
}

}  // namespace

RotaryTable rotary_table(int64_t first, int64_t count, int64_t head_dim, double theta,
                         const torch::TensorOptions& options) {
  const auto wide = options.dtype(torch::kFloat64).requires_grad(false);
  const auto type = options.dtype() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const Tensor frequency = torch::pow(theta, -torch::arange(0, head_dim, 2, wide) / static_cast<double>(head_dim));
  const Tensor angle = torch::outer(torch::arange(first, first + count, wide), frequency);
  return {angle.cos().to(type), angle.sin().to(type)};
}

RotaryTable rotary_at(const RotaryTable& table, const Tensor& places) {
  if (!table.cos.defined()) return table;
  const auto take = [&](const Tensor& angles) {
    return angles.index_select(0, places.flatten()).view({places.size(0), places.size(1), -1});
  };
  return {take(table.cos), take(table.sin)};
}

Tensor apply_rotary(const Tensor& x, const RotaryTable& table) {
  // Angles [B, S, hd / 2] are the same for all heads.
  const bool over_heads = table.cos.dim() == 3 && x.dim() == 4;
  const Tensor cos = over_heads ? table.cos.unsqueeze(1) : table.cos;
  const Tensor sin = over_heads ? table.sin.unsqueeze(1) : table.sin;
  const auto halves = x.to(cos.scalar_type()).chunk(2, -1);
  return torch::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1).to(x.scalar_type());
}

Heads split_heads(const Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads) {
  if (has_fused_kernel(qkv)) {
    const auto parts = SplitHeads::apply(qkv, num_heads, num_key_value_heads, std::nullopt, std::nullopt);
    return {parts[0], parts[1], parts[2]};
  }
  return split_heads_reference(qkv, num_heads, num_key_value_heads);
}

Heads split_heads_reference(const Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads) {
  const auto parts = qkv.unflatten(-1, {num_heads + 2 * num_key_value_heads, -1})
                         .transpose(1, 2)
                         .split_with_sizes({num_heads, num_key_value_heads, num_key_value_heads}, 1);
  return {parts[0], parts[1], parts[2]};
}

Heads split_heads(const Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads, const RotaryTable& table) {
  const int64_t head_dim = qkv.size(2) / (num_heads + 2 * num_key_value_heads);
  const bool table_fits = (table.cos.dim() == 2 || (table.cos.dim() == 3 && table.cos.size(0) == qkv.size(0))) &&
                          table.cos.size(-2) == qkv.size(1) && table.cos.size(-1) == head_dim / 2;
  TORCH_CHECK_VALUE(
      head_dim % 2 == 0 && head_dim * (num_heads + 2 * num_key_value_heads) == qkv.size(2) && table_fits &&
          table.cos.sizes() == table.sin.sizes() && table.cos.scalar_type() == accumulate_type(qkv) &&
          table.sin.scalar_type() == accumulate_type(qkv),
      "split_heads: qkv ", qkv.sizes(), " ", qkv.scalar_type(), " with ", num_heads, " + 2 * ", num_key_value_heads,
      " heads and a rotary table ", table.cos.sizes(), " ", table.cos.scalar_type(), " do not fit together");
  if (!has_fused_kernel(qkv)) return split_heads_reference(qkv, num_heads, num_key_value_heads, table);
  const auto parts = SplitHeads::apply(qkv, num_heads, num_key_value_heads, argument(table.cos.contiguous()),
                                       argument(table.sin.contiguous()));
  return {parts[0], parts[1], parts[2]};
}

Heads split_heads_reference(const Tensor& qkv, int64_t num_heads, int64_t num_key_value_heads,
                            const RotaryTable& table) {
  const Heads heads = split_heads_reference(qkv, num_heads, num_key_value_heads);
  return {apply_rotary(heads.query, table), apply_rotary(heads.key, table), heads.value.contiguous()};
}

Tensor causal_attention(const Tensor& query, const Tensor& key, const Tensor& value, const AttentionLimits& limits) {
  const int64_t sequence = query.size(2);
  const int64_t positions = key.size(2);
  const int64_t window = limits.window.value_or(positions);
  if (const int64_t unseen = positions - sequence - window + 1; unseen > 0) {
    // What even the first query no longer sees.
    const int64_t rest = positions - unseen;
    return causal_attention(query, key.narrow(2, unseen, rest), value.narrow(2, unseen, rest), limits);
  }
  const bool limited = window < positions;
  if (limits.softcap || (limited && query.is_cpu())) {
    return limited_attention(query, key, value, window, limits.softcap);
  }
  if (sequence == 1 && has_fused_kernel(query) && !torch::GradMode::is_enabled()) {
    return attention_of_one(query, key, value);
  }
  const bool fused =
      has_fused_kernel(query) && sequence == positions && sequence <= kLongestFusedAttention && query.numel() > 0;
  return fused ? FusedAttention::apply(query, key, value) : causal_attention_reference(query, key, value, window);
}

Tensor causal_attention_reference(const Tensor& query, const Tensor& key, const Tensor& value,
                                  std::optional<int64_t> window) {
  const int64_t heads = query.size(1);
  const int64_t sequence = query.size(2);
  const int64_t positions = key.size(2);
  const auto per_query_head = [&](const Tensor& x) {
    return x.size(1) == heads ? x : x.repeat_interleave(heads / x.size(1), 1);
  };
  // Flash attention knows the causal mask, but takes no other.
  std::optional<Tensor> mask;
  const bool limited = window && *window < positions;
  if (limited || (positions != sequence && sequence > 1)) {
    mask = seen_positions(positions - sequence, sequence, 0, positions, window.value_or(positions), query.device());
  }
  // Kernels that keep no scores take queries and values of one width: zeros behind change nothing.
  const int64_t width = std::max(query.size(-1), value.size(-1));
  const auto widened = [&](const Tensor& x) {
    return x.size(-1) == width ? x : torch::constant_pad_nd(x, {0, width - x.size(-1)});
  };
  return torch::scaled_dot_product_attention(widened(query), per_query_head(widened(key)),
                                             per_query_head(widened(value)), mask, 0.0,
                                             /*is_causal=*/!mask && positions == sequence, attention_scale(query))
      .narrow(-1, 0, value.size(-1))
      .transpose(1, 2)
      .flatten(2);
}

}  // namespace switchyard
