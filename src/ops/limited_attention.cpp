#include "ops/limited_attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>

#include "ops/block_sizes.h"
#include "ops/fused.h"
#include "ops/soft_cap.h"

namespace switchyard {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

double attention_scale(const Tensor& query) { return 1.0 / std::sqrt(static_cast<double>(query.size(-1))); }

Tensor seen_positions(int64_t first_query, int64_t queries, int64_t first_position, int64_t positions, int64_t window,
                      torch::Device device) {
  const auto options = torch::TensorOptions(torch::kInt64).device(device);
  const Tensor own = torch::arange(first_query, first_query + queries, options).unsqueeze(1);
  const Tensor other = torch::arange(first_position, first_position + positions, options);
  return (other <= own).logical_and(other > own - window);
}

namespace {

// A block of queries and what they see. The R = H / G query heads of one key/value head stand below each other.
class Block {
 public:
  // query [B, H, S, hd], key and value [B, G, P + S, ...]; queries first .. first + count - 1.
  Block(const Tensor& query, const Tensor& key, const Tensor& value, int64_t first, int64_t count, int64_t window)
      : first_(first), count_(count), groups_(key.size(1)) {
    const int64_t past = key.size(2) - query.size(2);
    begin_ = std::max<int64_t>(0, past + first - window + 1);
    positions_ = past + first + count - begin_;
    query_ = below_each_other(query);
    key_ = seen(key);
    value_ = seen(value);
    unseen_ = seen_positions(past + first, count, begin_, positions_, window, query.device()).logical_not();
    wide_ = accumulate_type(query);
    scale_ = attention_scale(query);
  }

  // Rows of this block, of [B, H, S, w] -> [B, G, R * count, w].
  Tensor below_each_other(const Tensor& x) const {
    return x.narrow(2, first_, count_).unflatten(1, {groups_, -1}).flatten(2, 3);
  }
  // And back: [B, G, R * count, w] -> [B, H, count, w].
  Tensor side_by_side(const Tensor& x) const { return x.unflatten(2, {-1, count_}).flatten(1, 2); }
  // Positions that this block sees, of [B, G, P + S, w].
  Tensor seen(const Tensor& x) const { return x.narrow(2, begin_, positions_); }

  // [B, G, R * count, positions]; `capped` gets the scores below the cap.
  Tensor probabilities(std::optional<double> softcap, Tensor* capped = nullptr) const {
    Tensor scores = torch::matmul(query_, key_.transpose(-1, -2)).to(wide_) * scale_;
    if (softcap) scores = soft_cap(scores, *softcap);
    if (capped != nullptr) *capped = scores;
    scores = scores.unflatten(2, {-1, count_}).masked_fill(unseen_, -std::numeric_limits<double>::infinity());
    return torch::softmax(scores.flatten(2, 3), -1);
  }

  Tensor output(std::optional<double> softcap) const {
    return torch::matmul(probabilities(softcap).to(value_.scalar_type()), value_);
  }

  struct Gradients {
    Tensor query, key, value;
  };
  // Of d_output [B, G, R * count, vd].
  Gradients gradients(const Tensor& d_output, std::optional<double> softcap) const {
    Tensor capped;
    const Tensor p = probabilities(softcap, softcap ? &capped : nullptr);
    const Tensor d_value = torch::matmul(p.to(value_.scalar_type()).transpose(-1, -2), d_output);
    const Tensor d_p = torch::matmul(d_output, value_.transpose(-1, -2)).to(wide_);
    Tensor d_scores = p * (d_p - (d_p * p).sum(-1, /*keepdim=*/true)) * scale_;
    if (softcap) d_scores = d_scores * (1 - (capped / *softcap).square());
    d_scores = d_scores.to(query_.scalar_type());
    return {torch::matmul(d_scores, key_), torch::matmul(d_scores.transpose(-1, -2), query_), d_value};
  }

 private:
  int64_t first_, count_, groups_, begin_ = 0, positions_ = 0;
  Tensor query_, key_, value_, unseen_;
  torch::ScalarType wide_{};
  double scale_ = 1;
};

template <class F>
void for_each_block(const Tensor& query, const Tensor& key, const Tensor& value, int64_t window, const F& f) {
  for (int64_t first = 0; first < query.size(2); first += kLimitedAttentionRows) {
    const int64_t count = std::min(kLimitedAttentionRows, query.size(2) - first);
    f(Block(query, key, value, first, count, window), first, count);
  }
}

struct LimitedAttention : torch::autograd::Function<LimitedAttention> {
  // -> [B, H, S, vd]
  static Tensor forward(AutogradContext* context, const Tensor& query, const Tensor& key, const Tensor& value,
                        int64_t window, std::optional<double> softcap) {
    context->save_for_backward({query, key, value});
    context->saved_data["window"] = window;
    context->saved_data["softcap"] = softcap;
    Tensor out = query.new_empty({query.size(0), query.size(1), query.size(2), value.size(3)});
    for_each_block(query, key, value, window, [&](const Block& block, int64_t first, int64_t count) {
      out.narrow(2, first, count).copy_(block.side_by_side(block.output(softcap)));
    });
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &query = saved[0], &key = saved[1], &value = saved[2];
    const auto softcap = context->saved_data["softcap"].toOptional<double>();
    const auto wide = query.options().dtype(accumulate_type(query));
    Tensor d_query = torch::empty_like(query);
    const Tensor d_key = torch::zeros(key.sizes(), wide), d_value = torch::zeros(value.sizes(), wide);
    for_each_block(query, key, value, context->saved_data["window"].toInt(),
                   [&](const Block& block, int64_t first, int64_t count) {
                     const auto of_block = block.gradients(block.below_each_other(gradients[0]), softcap);
                     d_query.narrow(2, first, count).copy_(block.side_by_side(of_block.query));
                     block.seen(d_key).add_(of_block.key);
                     block.seen(d_value).add_(of_block.value);
                   });
    return {d_query, d_key.to(key.scalar_type()), d_value.to(value.scalar_type()), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor limited_attention(const Tensor& query, const Tensor& key, const Tensor& value, int64_t window,
                         std::optional<double> softcap) {
  return LimitedAttention::apply(query, key, value, window, softcap).transpose(1, 2).flatten(2);
}

}  // namespace switchyard
