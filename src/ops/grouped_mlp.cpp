#include "ops/grouped_mlp.h"

#include <torch/csrc/autograd/custom_function.h>

#include "ops/activation.h"
#include "ops/block_sizes.h"
#include "ops/fused.h"
#include "ops/matrix_product.h"
#include "ops/recompute.h"

namespace switchyard {

using kernels::ProductForm;
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

// The weights of a few rows take as long to arrive as so many more rows take to be multiplied with them; and pieces of
// fewer than some times as many would mostly load weights.
constexpr int64_t kRowsOfLoading = 16;
constexpr int64_t kLeastPieceRows = 2 * kRowsOfLoading;

struct Piece {
  int64_t expert = 0;
  int64_t begin = 0;
  int64_t count = 0;
};

// Rows [begin, begin + count) of x.
MatrixView rows_of(const Tensor& x, int64_t begin, int64_t count) {
  const int64_t columns = x.size(1);
  return {static_cast<char*>(x.mutable_data_ptr()) + static_cast<size_t>(begin * columns) * x.element_size(), count,
          columns};
}
MatrixView rows_of(const Tensor& x, const Piece& piece) { return rows_of(x, piece.begin, piece.count); }

// Matrix `expert` of [E, rows, columns].
MatrixView matrix_of(const Tensor& weights, int64_t expert) {
  const int64_t rows = weights.size(1);
  const int64_t columns = weights.size(2);
  return {static_cast<char*>(weights.mutable_data_ptr()) +
              static_cast<size_t>(expert * rows * columns) * weights.element_size(),
          rows, columns};
}

// Row `expert` of the biases [E, width], or null where there are none.
const void* bias_of(const Tensor& biases, int64_t expert) {
  return biases.defined() ? rows_of(biases, expert, 1).data : nullptr;
}

// Consecutive experts [first, last) and their rows [begin, end).
struct ExpertGroup {
  int64_t first = 0;
  int64_t last = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Experts with so many rows together, or one with more.
std::vector<ExpertGroup> groups_of(const Tensor& offsets, int64_t most_rows) {
  std::vector<ExpertGroup> groups;
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    if (groups.empty() || begin + count - groups.back().begin > most_rows)
      groups.push_back({expert, expert, begin, begin});
    groups.back().last = expert + 1;
    groups.back().end = begin + count;
  });
  return groups;
}

ExpertGroup all_of(const Tensor& offsets) { return {0, offsets.numel(), 0, used_rows(offsets)}; }

// The rows of the group's experts in pieces, about as many for each thread. An expert's have one size.
std::vector<Piece> pieces_of(const Tensor& offsets, const ExpertGroup& group) {
  const auto parts_of = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
  const int64_t rows = group.end - group.begin;
  const int64_t threads = at::get_num_threads();
  const int64_t of_a_thread = std::max<int64_t>(1, parts_of(rows, threads * kExpertPieceRows));
  const int64_t most_rows = std::max(parts_of(rows, threads * of_a_thread), kLeastPieceRows);
  std::vector<Piece> pieces;
  for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
    if (expert < group.first || expert >= group.last) return;
    const int64_t parts = parts_of(count, most_rows);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = count * part / parts;
      pieces.push_back({expert, begin + first, count * (part + 1) / parts - first});
    }
  });
  return pieces;
}

// Calls f(i) for every task i on all threads, neighbours on one thread. before[i] counts the multiplications of the
// tasks before i, before.back() those of all.
template <class F>
void share_out(const std::vector<int64_t>& before, const F& f) {
  const size_t tasks = before.size() - 1;
  const int64_t shares = std::min<int64_t>(threads_for(before.back()), static_cast<int64_t>(tasks));
  at::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
    const at::AutoDispatchBelowAutograd below;  // what autograd knows of the calling thread, others don't
    for (size_t i = 0; i < tasks; ++i) {
      const double middle = 0.5 * static_cast<double>(before[i] + before[i + 1]) / static_cast<double>(before.back());
      const int64_t share = std::min(static_cast<int64_t>(middle * static_cast<double>(shares)), shares - 1);
      if (share >= first && share < last) f(i);
    }
  });
}

// Calls f(piece) for every piece of the group's rows, each of which takes so many multiplications.
template <class F>
void for_each_piece(const Tensor& offsets, const ExpertGroup& group, int64_t multiplications, const F& f) {
  const std::vector<Piece> pieces = pieces_of(offsets, group);
  std::vector<int64_t> before = {0};
  for (const Piece& piece : pieces) {
    before.push_back(before.back() + std::max(piece.count, kRowsOfLoading) * multiplications);
  }
  share_out(before, [&](size_t i) { f(pieces[i]); });
}

// With so many products of uneven size for each thread they can be shared out evenly.
constexpr size_t kTasksPerThread = 4;

// h of one piece into out [count, W].
void up_product(const MatrixView& out, const Piece& piece, const Tensor& x, const Tensor& up, const Tensor& up_bias) {
  product(x.scalar_type(), out, rows_of(x, piece), matrix_of(up, piece.expert), ProductForm::kTransposedB,
          bias_of(up_bias, piece.expert));
}

// A product for the gradient of weights: out = left^T right over the rows of one expert.
struct WeightTask {
  MatrixView out;
  MatrixView left;
  MatrixView right;
};

// All products of them. Where there are enough, the threads share them out: one product on all threads keeps them
// waiting for each other.
void compute(torch::ScalarType type, const std::vector<WeightTask>& tasks) {
  std::vector<int64_t> before = {0};
  for (const WeightTask& task : tasks) {
    before.push_back(before.back() + task.left.rows * task.left.columns * task.right.columns);
  }
  const auto one = [&](size_t i) {
    product(type, tasks[i].out, tasks[i].left, tasks[i].right, ProductForm::kTransposedA);
  };
  if (tasks.size() < kTasksPerThread * static_cast<size_t>(threads_for(before.back()))) {
    for (size_t i = 0; i < tasks.size(); ++i) one(i);
  } else {
    share_out(before, one);
  }
}

// out_e = the sum over expert e's rows, which begin at `from` in `rows`. out [E, width], undefined where there is no
// bias.
void sum_rows_of(const Tensor& rows, int64_t from, int64_t count, Tensor out, int64_t expert) {
  if (!out.defined()) return;
  Tensor target = out.select(0, expert);
  at::sum_out(target, rows.narrow(0, from, count), 0);
}

// Of an expert: what a row is multiplied with.
int64_t weights_of_one(const Tensor& up, const Tensor& down) {
  return (up.numel() + down.numel()) / std::max<int64_t>(1, up.size(0));
}

// The gradients of a grouped feed-forward, group of experts by group: what is between its products is read again by
// the products for the weights' gradients while it is in a processor's cache.
struct MlpGradients {
  const Tensor& x;
  const Tensor& offsets;
  const Tensor& up;
  const Tensor& down;
  const Tensor& hidden;  // undefined: computed again
  const Tensor& up_bias;
  const Tensor& dy;
  Activation kind;
  // Of a group: [rows, W] and [rows, F].
  Tensor d_hidden{};
  Tensor activation{};
  // Of everything.
  Tensor dx{};
  Tensor d_up{};
  Tensor d_down{};
  Tensor d_up_bias{};
  Tensor d_down_bias{};

  void run(bool down_biased) {
    const auto gradient_of = [](const Tensor& weights) { return torch::empty(weights.sizes(), weights.options()); };
    dx = torch::empty_like(x);
    d_up = gradient_of(up);
    d_down = gradient_of(down);
    if (up_bias.defined()) d_up_bias = torch::zeros({up.size(0), up.size(1)}, x.options());
    if (down_biased) d_down_bias = torch::zeros({down.size(0), down.size(1)}, x.options());
    const auto row_bytes = (up.size(1) + down.size(2)) * static_cast<int64_t>(x.element_size());
    const auto groups = groups_of(offsets, kExpertGroupBytes / row_bytes);
    int64_t most = 0;
    for (const ExpertGroup& group : groups) most = std::max(most, group.end - group.begin);
    d_hidden = torch::empty({most, up.size(1)}, x.options());
    activation = torch::empty({most, down.size(2)}, x.options());
    for (const ExpertGroup& group : groups) {
      rows_of_group(group);
      weights_of_group(group);
    }
    zero_from(dx, used_rows(offsets));
  }

 private:
  void rows_of_group(const ExpertGroup& group) {
    const auto type = x.scalar_type();
    const int64_t width = down.size(2);
    for_each_piece(offsets, group, weights_of_one(up, down), [&](const Piece& piece) {
      const Tensor d_activation = torch::empty({piece.count, width}, x.options());
      product(type, view_of(d_activation), rows_of(dy, piece), matrix_of(down, piece.expert), ProductForm::kPlain);
      const MatrixView part = rows_of(d_hidden, piece.begin - group.begin, piece.count);
      const Tensor again = hidden.defined() ? Tensor() : torch::empty({piece.count, up.size(1)}, x.options());
      const MatrixView values = hidden.defined() ? rows_of(hidden, piece) : view_of(again);
      if (!hidden.defined()) up_product(values, piece, x, up, up_bias);
      activation_backward(type, kind, values.data, d_activation.const_data_ptr(), part.data,
                          rows_of(activation, piece.begin - group.begin, piece.count).data, piece.count, width);
      product(type, rows_of(dx, piece), part, matrix_of(up, piece.expert), ProductForm::kPlain);
    });
  }

  // d_up_e = d_hidden_e^T x_e [E, W, D] and d_down_e = dy_e^T activation_e [E, D, F].
  void weights_of_group(const ExpertGroup& group) {
    std::vector<WeightTask> tasks;
    for_each_expert(offsets, [&](int64_t expert, int64_t begin, int64_t count) {
      if (expert < group.first || expert >= group.last) return;
      if (count == 0) {
        d_up.select(0, expert).zero_();
        d_down.select(0, expert).zero_();
        return;
      }
      const int64_t from = begin - group.begin;
      tasks.push_back({matrix_of(d_up, expert), rows_of(d_hidden, from, count), rows_of(x, begin, count)});
      tasks.push_back({matrix_of(d_down, expert), rows_of(dy, begin, count), rows_of(activation, from, count)});
      sum_rows_of(d_hidden, from, count, d_up_bias, expert);
      sum_rows_of(dy, begin, count, d_down_bias, expert);
    });
    compute(x.scalar_type(), tasks);
  }
};

struct GroupedMlp : torch::autograd::Function<GroupedMlp> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x_any, const Tensor& offsets,
                        const Tensor& up, const Tensor& down, const std::optional<Tensor>& given_up_bias,
                        const std::optional<Tensor>& given_down_bias, Activation activation, Inner inner) {
    const Tensor x = x_any.contiguous();
    const Tensor up_bias = given_up_bias.value_or(Tensor());
    const Tensor down_bias = given_down_bias.value_or(Tensor());
    const auto rows_of_hidden = [&](int64_t rows) { return torch::empty({rows, up.size(1)}, x.options()); };
    const Tensor hidden = inner == Inner::kKept ? rows_of_hidden(x.size(0)) : Tensor();
    Tensor y = torch::empty({x.size(0), down.size(1)}, x.options());
    const auto type = x.scalar_type();
    const int64_t width = down.size(2);
    for_each_piece(offsets, all_of(offsets), weights_of_one(up, down), [&](const Piece& piece) {
      const Tensor own = hidden.defined() ? hidden : rows_of_hidden(piece.count);
      const MatrixView part = hidden.defined() ? rows_of(own, piece) : view_of(own);
      up_product(part, piece, x, up, up_bias);
      const Tensor activated = torch::empty({piece.count, width}, x.options());
      activation_forward(type, activation, part.data, activated.mutable_data_ptr(), piece.count, width);
      product(type, rows_of(y, piece), view_of(activated), matrix_of(down, piece.expert), ProductForm::kTransposedB,
              bias_of(down_bias, piece.expert));
    });
    zero_from(y, used_rows(offsets));
    context->save_for_backward({x, offsets, up, down, hidden, up_bias, down_bias});
    context->saved_data["activation"] = static_cast<int64_t>(activation);
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor dy = gradients[0].contiguous();
    MlpGradients all{.x = saved[0],
                     .offsets = saved[1],
                     .up = saved[2],
                     .down = saved[3],
                     .hidden = saved[4],
                     .up_bias = saved[5],
                     .dy = dy,
                     .kind = static_cast<Activation>(context->saved_data["activation"].toInt())};
    all.run(/*down_biased=*/saved[6].defined());
    return {all.dx, Tensor(), all.d_up, all.d_down, all.d_up_bias, all.d_down_bias, Tensor(), Tensor()};
  }
};

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

Tensor kept_or_recomputed(const Tensor& x, Inner inner, const ForwardPart& part) {
  return inner == Inner::kKept ? part(x) : recomputed(x, part);
}

}  // namespace

Tensor grouped_mlp(const Tensor& x, const Tensor& offsets, const MlpWeights& weights, Activation activation,
                   Inner inner) {
  check_shapes(x, offsets, weights, activation);
  if (!has_fused_kernel(x)) {
    return kept_or_recomputed(
        x, inner, [=](const Tensor& rows) { return grouped_mlp_reference(rows, offsets, weights, activation); });
  }
  return GroupedMlp::apply(x, offsets, weights.up.contiguous(), weights.down.contiguous(), argument(weights.up_bias),
                           argument(weights.down_bias), activation, inner);
}

Tensor dense_mlp(const Tensor& x, const MlpWeights& weights, Activation activation, Inner inner) {
  if (!has_fused_kernel(x)) {
    return kept_or_recomputed(x, inner,
                              [=](const Tensor& rows) { return dense_mlp_reference(rows, weights, activation); });
  }
  return grouped_mlp(x, torch::full({1}, x.size(0), torch::kInt64), weights, activation, inner);
}

}  // namespace switchyard
