#include "ops/grouped_mlp.h"

#include "ops/activation.h"
#include "ops/block_sizes.h"
#include "ops/fused.h"
#include "ops/matrix_product.h"

namespace switchyard {

using torch::Tensor;

namespace {

// Calls f(expert, first row, number of rows) for every expert.
template <class F>
void for_each_expert(const Tensor& offsets, F&& f) {
  const int64_t* ends = offsets.const_data_ptr<int64_t>();
  int64_t begin = 0;
  for (int64_t expert = 0; expert < offsets.numel(); ++expert) {
    f(expert, begin, ends[expert] - begin);
    begin = ends[expert];
  }
}

int64_t used_rows(const Tensor& offsets) { return offsets.const_data_ptr<int64_t>()[offsets.numel() - 1]; }

void zero_from(Tensor x, int64_t row) {
  if (row < x.size(0)) x.narrow(0, row, x.size(0) - row).zero_();
}

struct Piece {
  int64_t expert = 0;
  int64_t begin = 0;
  int64_t count = 0;
  Tensor of(const Tensor& rows) const { return rows.narrow(0, begin, count); }
};

std::vector<Piece> pieces_of(const Tensor& offsets) {
  std::vector<Piece> pieces;
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    for (int64_t done = 0; done < count; done += kExpertPieceRows) {
      pieces.push_back({expert, begin + done, std::min(kExpertPieceRows, count - done)});
    }
  });
  return pieces;
}

// Calls f(i) for every task i on all threads, neighbours on one thread. before[i] is the cost of the tasks before i,
// and before.back() that of all.
template <class F>
void share_out(const std::vector<int64_t>& before, const F& f) {
  const size_t tasks = before.size() - 1;
  const int64_t shares = std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(tasks));
  at::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
    const at::AutoDispatchBelowAutograd below;  // what autograd knows of the calling thread, others don't
    for (size_t i = 0; i < tasks; ++i) {
      const int64_t share = (before[i] + before[i + 1]) / 2 * shares / before.back();
      if (share >= first && share < last) f(i);
    }
  });
}

// Calls f(piece) for every piece of the rows.
template <class F>
void for_each_piece(const Tensor& offsets, const F& f) {
  const std::vector<Piece> pieces = pieces_of(offsets);
  std::vector<int64_t> rows_before = {0};
  for (const Piece& piece : pieces) rows_before.push_back(piece.begin + piece.count);
  share_out(rows_before, [&](size_t i) { f(pieces[i]); });
}

// out = rows weight (+ bias, where there is one).
void product_with_bias(Tensor out, const Tensor& rows, const Tensor& weight, const Tensor& biases, int64_t expert) {
  if (biases.defined()) {
    at::addmm_out(out, biases.select(0, expert), rows, weight);
  } else {
    matrix_product_out(out, rows, weight);
  }
}

// A product for the gradient of weights: out = left^T right over the rows of one expert.
struct WeightTask {
  Tensor out;
  Tensor left;
  Tensor right;
};

// d_up_e = d_hidden_e^T x_e [E, W, D] and d_down_e = dy_e^T activation_e [E, D, F]. The threads share the products out:
// one product on all threads keeps them waiting for each other.
std::array<Tensor, 2> weight_gradients(const Tensor& d_hidden, const Tensor& x, const Tensor& dy,
                                       const Tensor& activation, const Tensor& offsets) {
  const int64_t width = activation.size(1);
  const Tensor d_up = torch::empty({offsets.numel(), d_hidden.size(1), x.size(1)}, x.options());
  const Tensor d_down = torch::empty({offsets.numel(), dy.size(1), width}, x.options());
  std::vector<WeightTask> tasks;
  std::vector<int64_t> cost_before = {0};
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    if (count == 0) {
      d_up.select(0, expert).zero_();
      d_down.select(0, expert).zero_();
      return;
    }
    const auto rows = [&](const Tensor& all) { return all.narrow(0, begin, count); };
    tasks.push_back({d_up.select(0, expert), rows(d_hidden), rows(x)});
    cost_before.push_back(cost_before.back() + count * d_hidden.size(1));
    tasks.push_back({d_down.select(0, expert), rows(dy), rows(activation)});
    cost_before.push_back(cost_before.back() + count * width);
  });
  share_out(cost_before, [&](size_t i) { matrix_product_out(tasks[i].out, tasks[i].left.t(), tasks[i].right); });
  return {d_up, d_down};
}

// d_bias_e = sum over expert e's rows of d_out: [E, width]; undefined where there is no bias.
Tensor grouped_bias_gradient(const Tensor& d_out, const Tensor& offsets, const Tensor& bias) {
  if (!bias.defined()) return {};
  Tensor out = torch::zeros({offsets.numel(), d_out.size(1)}, d_out.options());
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    Tensor target = out.select(0, expert);
    if (count > 0) at::sum_out(target, d_out.narrow(0, begin, count), 0);
  });
  return out;
}

struct GroupedMlp : torch::autograd::Function<GroupedMlp> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x_any, const Tensor& offsets,
                        const Tensor& up, const Tensor& down, const std::optional<Tensor>& given_up_bias,
                        const std::optional<Tensor>& given_down_bias, Activation activation) {
    const Tensor x = x_any.contiguous();
    const Tensor up_bias = given_up_bias.value_or(Tensor());
    const Tensor down_bias = given_down_bias.value_or(Tensor());
    const Tensor hidden = torch::empty({x.size(0), up.size(1)}, x.options());
    Tensor y = torch::empty({x.size(0), down.size(1)}, x.options());
    for_each_piece(offsets, [&](const Piece& piece) {
      const Tensor part = piece.of(hidden);
      product_with_bias(part, piece.of(x), up.select(0, piece.expert).t(), up_bias, piece.expert);
      product_with_bias(piece.of(y), activation_forward(part, activation), down.select(0, piece.expert).t(), down_bias,
                        piece.expert);
    });
    zero_from(y, used_rows(offsets));
    context->save_for_backward({x, offsets, up, down, hidden, up_bias, down_bias});
    context->saved_data["activation"] = static_cast<int64_t>(activation);
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    const Tensor& offsets = saved[1];
    const Tensor& up = saved[2];
    const Tensor& down = saved[3];
    const Tensor& hidden = saved[4];
    const auto kind = static_cast<Activation>(context->saved_data["activation"].toInt());
    const Tensor dy = gradients[0].contiguous();
    const Tensor dx = torch::empty_like(x);
    const Tensor d_hidden = torch::empty_like(hidden);
    const Tensor activation = torch::empty({x.size(0), down.size(2)}, x.options());
    for_each_piece(offsets, [&](const Piece& piece) {
      const Tensor d_activation = matrix_product(piece.of(dy), down.select(0, piece.expert));
      const Tensor part = piece.of(d_hidden);
      activation_backward(piece.of(hidden), d_activation, kind, part, piece.of(activation));
      Tensor out = piece.of(dx);
      matrix_product_out(out, part, up.select(0, piece.expert));
    });
    zero_from(dx, used_rows(offsets));
    const auto [d_up, d_down] = weight_gradients(d_hidden, x, dy, activation, offsets);
    return {dx,
            Tensor(),
            d_up,
            d_down,
            grouped_bias_gradient(d_hidden, offsets, saved[5]),
            grouped_bias_gradient(dy, offsets, saved[6]),
            Tensor()};
  }
};

// Whether at::_grouped_mm takes these: bfloat16, and rows of whole 16 bytes.
bool takes_grouped_products(const Tensor& x, const MlpWeights& weights) {
  const auto whole = [&](int64_t width) { return width * static_cast<int64_t>(x.element_size()) % 16 == 0; };
  return x.scalar_type() == torch::kBFloat16 && whole(x.size(1)) && whole(weights.up.size(1)) &&
         whole(weights.down.size(2));
}

Tensor plain_linear(const Tensor& x, const Tensor& weights, const Tensor& bias, int64_t expert) {
  const Tensor y = torch::mm(x, weights[expert].t());
  return bias.defined() ? y + bias[expert] : y;
}

Tensor plain_expert(const Tensor& x, const MlpWeights& weights, Activation activation, int64_t expert) {
  const Tensor hidden = plain_linear(x, weights.up, weights.up_bias, expert);
  return plain_linear(plain_activation(hidden, activation), weights.down, weights.down_bias, expert);
}

bool is_shaped(const Tensor& bias, const Tensor& weight) {
  return !bias.defined() || bias.sizes() == weight.sizes().slice(0, 2);
}

void check_shapes(const Tensor& x, const Tensor& offsets, const MlpWeights& w, Activation activation) {
  const int64_t matrices = is_gated(activation) ? 2 : 1;
  TORCH_CHECK_VALUE(w.up.dim() == 3 && w.down.dim() == 3 && w.up.size(1) == matrices * w.down.size(2) &&
                        w.up.size(2) == x.size(1) && w.down.size(1) == x.size(1) && offsets.numel() == w.up.size(0) &&
                        w.down.size(0) == w.up.size(0) && is_shaped(w.up_bias, w.up) && is_shaped(w.down_bias, w.down),
                    "grouped_mlp: x ", x.sizes(), ", up ", w.up.sizes(), ", down ", w.down.sizes(),
                    ", their biases and offsets ", offsets.sizes(), " do not fit together");
}

}  // namespace

Tensor grouped_mlp(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
  check_shapes(x, offsets, weights, activation);
  if (!has_fused_kernel(x)) return grouped_mlp_reference(x, offsets, weights, activation);
  // An undefined tensor is no argument of an autograd function, an empty optional is.
  const auto given = [](const Tensor& bias) { return bias.defined() ? std::optional<Tensor>(bias) : std::nullopt; };
  return GroupedMlp::apply(x, offsets, weights.up.contiguous(), weights.down.contiguous(), given(weights.up_bias),
                           given(weights.down_bias), activation);
}

Tensor grouped_mlp_reference(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
  if (!x.is_cpu() && takes_grouped_products(x, weights)) return grouped_mlp_on_device(x, offsets, weights, activation);
  std::vector<Tensor> parts;
  for_each_expert(offsets.cpu(), [&](int64_t expert, int64_t begin, int64_t count) {
    parts.push_back(plain_expert(x.narrow(0, begin, count), weights, activation, expert));
  });
  Tensor y = torch::cat(parts);
  return y.size(0) == x.size(0) ? y : torch::cat({y, x.new_zeros({x.size(0) - y.size(0), x.size(1)})});
}

Tensor grouped_mlp_on_device(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation) {
  const Tensor ends = offsets.to(torch::kInt32);
  const Tensor row = torch::arange(x.size(0), ends.options()).unsqueeze(1);
  // A grouped GEMM leaves rows beyond the last offset unwritten, in its result and in its gradient: `where` keeps both
  // out.
  const Tensor used = row < ends[-1];
  const auto only_used = [&](const Tensor& y) { return torch::where(used, y, torch::zeros({}, y.options())); };
  // A row's bias is picked by a product with [N, E] zeros and ones, whose gradient sums in a fixed order.
  const auto with_bias = [&](const Tensor& y, const Tensor& bias) {
    if (!bias.defined()) return y;
    const Tensor below_end = row < ends;
    const Tensor below_begin =
        torch::cat({torch::zeros_like(below_end.narrow(1, 0, 1)), below_end.narrow(1, 0, ends.numel() - 1)}, 1);
    return only_used(y + torch::mm(below_end.logical_and(below_begin.logical_not()).to(y.scalar_type()), bias));
  };
  const Tensor hidden = at::_grouped_mm(only_used(x), weights.up.transpose(1, 2), ends);
  const Tensor activated = plain_activation(with_bias(hidden, weights.up_bias), activation);
  return only_used(with_bias(at::_grouped_mm(activated, weights.down.transpose(1, 2), ends), weights.down_bias));
}

Tensor dense_mlp(const Tensor& x, const MlpWeights& weights, Activation activation) {
  if (!has_fused_kernel(x)) return plain_expert(x, weights, activation, 0);
  return grouped_mlp(x, torch::full({1}, x.size(0), torch::kInt64), weights, activation);
}

}  // namespace switchyard
