// The tables of all instruction sets that this processor has, against the plainest one.
#include "ops/kernels/kernels.h"

#include <limits>
#include <string_view>

#include "ops/fused.h"
#include "tests/support/tensors.h"

namespace switchyard::kernels {

extern const Kernels<float> kFloat_baseline;
extern const Kernels<double> kDouble_baseline;
extern const Kernels<Bf16> kBf16_baseline;
#ifdef __x86_64__
extern const Kernels<float> kFloat_avx2;
extern const Kernels<double> kDouble_avx2;
extern const Kernels<Bf16> kBf16_avx2;
extern const Kernels<float> kFloat_avx512;
extern const Kernels<double> kDouble_avx512;
extern const Kernels<Bf16> kBf16_avx512;
extern const Kernels<float> kFloat_avx512bf16;
extern const Kernels<double> kDouble_avx512bf16;
extern const Kernels<Bf16> kBf16_avx512bf16;
#endif

}  // namespace switchyard::kernels

namespace switchyard::test::kernels_test {
namespace {

using kernels::Acc;
using kernels::Kernels;
using torch::Tensor;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T, class F, class D, class B>
const Kernels<T>* of_type(const F& floats, const D& doubles, const B& bf16s) {
  if constexpr (std::is_same_v<T, float>) return &floats;
  if constexpr (std::is_same_v<T, double>) return &doubles;
  if constexpr (std::is_same_v<T, kernels::Bf16>) return &bf16s;
}

// All usable tables, the baseline first.
template <class T>
std::vector<const Kernels<T>*> tables() {
  std::vector<const Kernels<T>*> all = {
      of_type<T>(kernels::kFloat_baseline, kernels::kDouble_baseline, kernels::kBf16_baseline)};
#ifdef __x86_64__
  const std::string_view best = kernels::instruction_set();
  if (best != "baseline") all.push_back(of_type<T>(kernels::kFloat_avx2, kernels::kDouble_avx2, kernels::kBf16_avx2));
  if (best.starts_with("avx512")) {
    all.push_back(of_type<T>(kernels::kFloat_avx512, kernels::kDouble_avx512, kernels::kBf16_avx512));
  }
  if (best == "avx512bf16") {
    all.push_back(of_type<T>(kernels::kFloat_avx512bf16, kernels::kDouble_avx512bf16, kernels::kBf16_avx512bf16));
  }
#endif
  return all;
}

using Results = std::vector<Tensor>;

// Runs f(table, T{}) with every table and compares the tensors it returns with those of the baseline.
template <class F>
void compare_tables(torch::ScalarType type, F&& f) {
  with_element_type(torch::empty({0}, type), [&]<class T>(T) {
    const auto all = tables<T>();
    const Results expected = f(*all[0], T{});
    for (size_t i = 1; i < all.size(); ++i) {
      const Results actual = f(*all[i], T{});
      for (size_t j = 0; j < expected.size(); ++j) EXPECT_TRUE(close(actual[j], expected[j], type)) << i << ' ' << j;
    }
  });
}

// Runs f with every table and expects only NaN in what it returns.
template <class F>
void expect_nan(torch::ScalarType type, F&& f) {
  with_element_type(torch::empty({0}, type), [&]<class T>(T) {
    for (const auto* table : tables<T>()) {
      for (const Tensor& t : f(*table, T{})) EXPECT_TRUE(t.isnan().all().template item<bool>()) << t;
    }
  });
}

class KernelTables : public ::testing::TestWithParam<torch::ScalarType> {
 protected:
  Tensor values(torch::IntArrayRef shape, uint64_t seed, double size = 1) const {
    return (random_tensor(shape, seed) * size).to(GetParam());
  }
  // In the type of sums.
  Tensor wide(torch::IntArrayRef shape, uint64_t seed) const {
    return random_tensor(shape, seed, accumulate_type(torch::empty({0}, GetParam())));
  }
  Tensor zeros(torch::IntArrayRef shape) const { return torch::zeros(shape, GetParam()); }
};

// Less than, equal to and not a multiple of every vector width.
constexpr int64_t kWidths[] = {1, 7, 16, 33, 256, 259};

TEST_P(KernelTables, RmsNorm) {
  for (const int64_t dim : kWidths) {
    const Tensor x = values({3, dim}, 1, dim == 1 ? 0.003 : 1), dy = values({3, dim}, 2), weight = wide({dim}, 3);
    compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      using A = Acc<T>;
      Tensor y = zeros({3, dim}), dx = zeros({3, dim});
      Tensor rstd = torch::zeros({3}, weight.options()), dweight = torch::zeros({dim}, weight.options());
      table.rms_norm_forward(input<T>(x), input<A>(weight), output<T>(y), output<A>(rstd), 3, dim, 1e-5);
      table.rms_norm_backward(input<T>(dy), input<T>(x), input<A>(weight), input<A>(rstd), output<T>(dx),
                              output<A>(dweight), 3, dim);
      return {y, rstd, dx, dweight};
    });
  }
}

using Shape = std::vector<int64_t>;
constexpr kernels::Nonlinearity kNonlinearities[] = {kernels::Nonlinearity::kSilu, kernels::Nonlinearity::kGelu,
                                                     kernels::Nonlinearity::kRelu};

TEST_P(KernelTables, Activations) {
  for (const int64_t width : kWidths) {
    for (const double size : {1.0, 40.0}) {
      const Tensor hidden = values({3, 2 * width}, 1, size), dy = values({3, 2 * width}, 2);
      for (const kernels::Nonlinearity kind : kNonlinearities) {
        for (const bool gated : {true, false}) {
          const int64_t inner = gated ? width : 2 * width;
          compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
            Tensor y = zeros({3, inner}), d_hidden = zeros({3, 2 * width}), again = zeros({3, inner});
            table.activation_forward(kind, gated, input<T>(hidden), output<T>(y), 3, inner);
            table.activation_backward(kind, gated, input<T>(hidden), input<T>(dy), output<T>(d_hidden),
                                      output<T>(again), 3, inner);
            EXPECT_TRUE(close(again, y));
            return {y, d_hidden};
          });
        }
      }
    }
  }
}

TEST_P(KernelTables, RotateAndBack) {
  for (const int64_t half : kWidths) {
    const Tensor x = values({2 * half}, 1), angle = wide({half}, 2), cos = angle.cos(), sin = angle.sin();
    compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      using A = Acc<T>;
      Tensor turned = zeros({2 * half}), back = zeros({2 * half});
      table.rotate(input<T>(x), output<T>(turned), input<A>(cos), input<A>(sin), 2 * half, 1);
      table.rotate(input<T>(turned), output<T>(back), input<A>(cos), input<A>(sin), 2 * half, -1);
      EXPECT_TRUE(close(back, x));
      return {turned, back};
    });
  }
}

// One key/value head with `heads` query heads; the result and all gradients.
template <class T>
Results attention(const Kernels<T>& table, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& d_out) {
  using A = Acc<T>;
  const int64_t heads = q.size(0), sequence = q.size(1), head_dim = q.size(2), value_dim = v.size(1);
  const kernels::AttentionShape shape = {
      heads, sequence, head_dim, value_dim, sequence * head_dim, heads * value_dim, /*scale=*/0.25};
  // A scratch full of NaN shows what is read before it is written.
  const Tensor scratch = torch::full({static_cast<int64_t>(table.attention_scratch(shape)) / 4}, kNan, kF32);
  Tensor out = torch::empty_like(d_out), dq = torch::empty_like(q), dk = torch::empty_like(k),
         dv = torch::empty_like(v);
  Tensor sums = torch::empty({heads, sequence}, accumulate_type(q));
  const kernels::AttentionHead<T> head = {input<T>(q), input<T>(k), input<T>(v)};
  table.attention_forward(shape, head, output<T>(out), output<A>(sums), scratch.mutable_data_ptr());
  scratch.fill_(kNan);
  table.attention_backward(shape, head, input<A>(sums), input<T>(d_out), {output<T>(dq), output<T>(dk), output<T>(dv)},
                           scratch.mutable_data_ptr());
  return {out, dq, dk, dv};
}

TEST_P(KernelTables, Attention) {
  struct Sizes {
    int64_t heads, sequence, head_dim, value_dim;
  };
  // Blocks of queries and vectors that are full, single and cut short.
  for (const Sizes& n : {Sizes{1, 1, 1, 1}, Sizes{2, 5, 3, 2}, Sizes{1, 48, 16, 16}, Sizes{3, 49, 33, 17},
                         Sizes{1, 100, 7, 40}, Sizes{2, 131, 64, 32}}) {
    Results x = {values({n.heads, n.sequence, n.head_dim}, 1), values({n.sequence, n.head_dim}, 2),
                 values({n.sequence, n.value_dim}, 3)};
    const Tensor d_out = values({n.sequence, n.heads * n.value_dim}, 4);
    Results exact;
    for (const Tensor& t : x) exact.push_back(t.to(kF64).requires_grad_());
    const Tensor unseen = torch::ones({n.sequence, n.sequence}, torch::kBool).triu(1);
    const Tensor scores = torch::matmul(exact[0], exact[1].t()) * 0.25;
    const Tensor p = torch::softmax(scores.masked_fill(unseen, -std::numeric_limits<double>::infinity()), -1);
    const Tensor out = torch::matmul(p, exact[2]).transpose(0, 1).flatten(1);
    out.backward(d_out.to(kF64));
    const Results expected = {out.detach(), exact[0].grad(), exact[1].grad(), exact[2].grad()};
    compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      const Results actual = attention(table, x[0], x[1], x[2], d_out);
      for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_TRUE(close(actual[i], expected[i], GetParam())) << n.sequence << ", result " << i;
      }
      return actual;
    });
  }
}

TEST_P(KernelTables, FewRowsProduct) {
  for (const int64_t width : kWidths) {
    const Tensor x = values({3, width}, 1), weight = values({5, width}, 2);
    const Tensor expected = torch::mm(x.to(kF64), weight.to(kF64).t());
    compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      Tensor out = zeros({3, 6});  // the last column is another's
      table.few_rows_product(input<T>(x), input<T>(weight), nullptr, output<T>(out), 3, 5, width, 6);
      EXPECT_TRUE(close(out.narrow(1, 0, 5), expected, GetParam()));
      EXPECT_TRUE(out.select(1, 5).eq(0).all().template item<bool>());
      const Tensor bias = values({5}, 3);
      Tensor biased = zeros({3, 5});
      table.few_rows_product(input<T>(x), input<T>(weight), input<T>(bias), output<T>(biased), 3, 5, width, 5);
      EXPECT_TRUE(close(biased, expected + bias.to(kF64), GetParam()));
      return {out};
    });
  }
}

// Of every form, with rows that are parts of longer ones, at sizes around those of tiles, panels and blocks.
TEST_P(KernelTables, Products) {
  using kernels::ProductForm;
  struct Sizes {
    int64_t m, n, k;
  };
  for (const Sizes& s : {Sizes{1, 1, 1}, Sizes{5, 3, 2}, Sizes{6, 64, 32}, Sizes{17, 33, 31}, Sizes{97, 130, 48},
                         Sizes{7, 80, 1100}, Sizes{49, 16, 35}}) {
    for (const ProductForm form : {ProductForm::kPlain, ProductForm::kTransposedB, ProductForm::kTransposedA}) {
      const bool a_turned = form == ProductForm::kTransposedA, b_turned = form == ProductForm::kTransposedB;
      // The last two columns are another's.
      const Tensor a = values(a_turned ? Shape{s.k, s.m + 2} : Shape{s.m, s.k + 2}, 1);
      const Tensor b = values(b_turned ? Shape{s.n, s.k + 2} : Shape{s.k, s.n + 2}, 2), bias = values({s.n}, 3);
      const Tensor left = a.narrow(1, 0, a.size(1) - 2).to(kF64), right = b.narrow(1, 0, b.size(1) - 2).to(kF64);
      const Tensor expected = torch::mm(a_turned ? left.t() : left, b_turned ? right.t() : right);
      compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
        const kernels::ProductShape shape = {form, s.m, s.n, s.k, a.size(1), b.size(1), s.n + 1};
        const Tensor scratch = torch::empty({static_cast<int64_t>(table.product_scratch(shape))}, torch::kUInt8);
        Tensor out = zeros({s.m, s.n + 1}), biased = zeros({s.m, s.n + 1});
        Tensor sum = torch::ones({s.m, s.n + 1}, out.options().dtype(accumulate_type(out)));
        const auto multiply = [&](const T* with, Tensor& to) {
          table.product(shape, input<T>(a), input<T>(b), with, output<T>(to), scratch.mutable_data_ptr());
        };
        multiply(nullptr, out);
        multiply(input<T>(bias), biased);
        table.product_add(shape, input<T>(a), input<T>(b), output<Acc<T>>(sum), scratch.mutable_data_ptr());
        EXPECT_TRUE(close(out.narrow(1, 0, s.n), expected, GetParam())) << s.m << " " << s.n << " " << s.k;
        EXPECT_TRUE(close(biased.narrow(1, 0, s.n), expected + bias.to(kF64), GetParam()));
        EXPECT_TRUE(close(sum.narrow(1, 0, s.n), expected + 1, sum.scalar_type()));
        EXPECT_TRUE(out.select(1, s.n).eq(0).all().template item<bool>());
        EXPECT_TRUE(sum.select(1, s.n).eq(1).all().template item<bool>());
        return {out, biased, sum};
      });
    }
  }
}

TEST_P(KernelTables, CrossEntropy) {
  for (const int64_t vocab : kWidths) {
    for (const double size : {1.0, 30.0}) {
      const Tensor logits = values({3, vocab}, 1, size), targets = integers({vocab - 1, -1, 0});
      compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
        using A = Acc<T>;
        Tensor d = logits.clone(), unchanged = logits.clone();
        Tensor losses = torch::zeros({3}, accumulate_type(logits)), again = torch::zeros_like(losses);
        table.cross_entropy(output<T>(d), input<int64_t>(targets), output<A>(losses), 3, vocab, true, A(1));
        table.cross_entropy(output<T>(unchanged), input<int64_t>(targets), output<A>(again), 3, vocab, false, A(1));
        EXPECT_TRUE(torch::equal(unchanged, logits));
        EXPECT_TRUE(torch::equal(losses, again));
        EXPECT_TRUE(losses.ge(0).all().template item<bool>());
        Tensor half = logits.clone();
        table.cross_entropy(output<T>(half), input<int64_t>(targets), output<A>(again), 3, vocab, true, A(0.5));
        EXPECT_TRUE(close(half, d.to(kF64) / 2, GetParam()));
        return {losses, d};
      });
    }
  }
}

TEST_P(KernelTables, Softmax) {
  for (const int64_t n : kWidths) {
    for (const double size : {1.0, 30.0}) {
      const Tensor logits = values({3, n}, 1, size);
      compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
        Tensor probabilities = zeros({3, n}), log_sums = torch::zeros({3}, accumulate_type(logits));
        table.softmax(input<T>(logits), output<T>(probabilities), output<Acc<T>>(log_sums), 3, n);
        EXPECT_TRUE(close(probabilities, torch::softmax(logits.to(kF64), -1), GetParam()));
        EXPECT_TRUE(close(log_sums, torch::logsumexp(logits.to(kF64), -1), log_sums.scalar_type()));
        return {probabilities, log_sums};
      });
    }
  }
}

TEST_P(KernelTables, Combine) {
  const Tensor position = integers({2, 0, -1, 4, 3, -1});
  for (const int64_t dim : kWidths) {
    const Tensor rows = values({5, dim}, 1), dy = values({3, dim}, 2), weights = wide({3, 2}, 3);
    compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      using A = Acc<T>;
      Tensor y = zeros({3, dim}), plain = zeros({3, dim}), d_rows = zeros({5, dim});
      Tensor d_weights = torch::ones({3, 2}, weights.options());
      table.combine(input<T>(rows), input<int64_t>(position), input<A>(weights), output<T>(y), 3, 2, dim);
      table.combine(input<T>(rows), input<int64_t>(position), nullptr, output<T>(plain), 3, 2, dim);
      table.combine_backward(input<T>(rows), input<int64_t>(position), input<A>(weights), input<T>(dy),
                             output<T>(d_rows), output<A>(d_weights), 3, 2, dim);
      return {y, plain, d_rows, d_weights};
    });
  }
}

TEST_P(KernelTables, AttentionOfOne) {
  for (const int64_t positions : {1, 17, 40}) {
    const Tensor q = values({2, 5}, 1), k = values({positions, 5}, 2), v = values({positions, 270}, 3);
    const Tensor weights = torch::softmax(torch::mm(q.to(kF64), k.to(kF64).t()) * 0.4, -1);
    compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      Tensor out = zeros({2, 270}), scores = torch::zeros({positions}, accumulate_type(q));
      table.attention_of_one(input<T>(q), input<T>(k), input<T>(v), 2, positions, 5, 270, 0.4, output<T>(out),
                             output<Acc<T>>(scores));
      EXPECT_TRUE(close(out, torch::mm(weights, v.to(kF64)), GetParam()));
      return {out};
    });
  }
}

TEST_P(KernelTables, SquareSum) {
  for (const int64_t count : kWidths) {
    const Tensor x = values({count}, 1);
    with_element_type(x, [&]<class T>(T) {
      for (const auto* table : tables<T>()) {
        EXPECT_NEAR(table->square_sum(input<T>(x), count), x.to(kF64).square().sum().item<double>(), 1e-9);
      }
    });
  }
}

// The formula in float64, with numbers that a step of training has.
TEST_P(KernelTables, AdamW) {
  for (const int64_t count : kWidths) {
    const Tensor gradient = values({count}, 1);
    const Tensor parameter = wide({count}, 2), exp_avg = wide({count}, 3), exp_avg_sq = wide({count}, 4).square();
    const Tensor g = gradient.to(kF64) * 0.5;
    const Tensor m = 0.9 * exp_avg.to(kF64) + 0.1 * g;
    const Tensor v = 0.99 * exp_avg_sq.to(kF64) + 0.01 * g.square();
    const Tensor expected = 0.999 * parameter.to(kF64) - 0.01 * m / (2 * v.sqrt() + 1e-3);
    compare_tables(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      using A = Acc<T>;
      const kernels::AdamWFactors<A> factors{A(0.5), A(0.999), A(0.9), A(0.99), A(0.01), A(2), A(1e-3)};
      Tensor p = parameter.clone(), first = exp_avg.clone(), second = exp_avg_sq.clone(), without = parameter.clone();
      Tensor copy = torch::zeros({count}, torch::kBFloat16);
      const auto update = [&](Tensor& values, kernels::Bf16* copied) {
        first.copy_(exp_avg);
        second.copy_(exp_avg_sq);
        table.adamw(input<T>(gradient), output<A>(values), output<A>(first), output<A>(second), copied, count, factors);
      };
      update(without, nullptr);
      update(p, output<kernels::Bf16>(copy));
      EXPECT_TRUE(torch::equal(p, without));
      EXPECT_TRUE(torch::equal(copy, p.to(torch::kBFloat16)));
      EXPECT_TRUE(torch::allclose(p.to(kF64), expected, 1e-5, 1e-6)) << p - expected;
      EXPECT_TRUE(torch::allclose(first.to(kF64), m, 1e-5, 1e-6));
      EXPECT_TRUE(torch::allclose(second.to(kF64), v, 1e-5, 1e-6));
      return {p, first, second};
    });
  }
}

TEST_P(KernelTables, NanStaysNan) {
  for (const int64_t at : {0, 5, 32}) {  // in a full vector, in the rest, first and last
    Tensor row = values({1, 33}, 1);
    row[0][at].fill_(kNan);
    const Tensor weight = wide({33}, 2);
    const Tensor targets = integers({7});
    expect_nan(GetParam(), [&]<class T>(const Kernels<T>& table, T) -> Results {
      using A = Acc<T>;
      Tensor y = zeros({1, 33}), d_logits = row.clone();
      Tensor rstd = torch::zeros({1}, weight.options()), losses = torch::zeros({1}, weight.options());
      table.rms_norm_forward(input<T>(row), input<A>(weight), output<T>(y), output<A>(rstd), 1, 33, 1e-5);
      table.cross_entropy(output<T>(d_logits), input<int64_t>(targets), output<A>(losses), 1, 33, true, A(1));
      return {y, rstd, d_logits, losses};
    });
  }
}

TEST_P(KernelTables, NanOfOneElementStaysThere) {
  Tensor gate_up = values({1, 2 * 33}, 1);
  gate_up[0][20].fill_(kNan);       // a gate
  gate_up[0][33 + 32].fill_(kNan);  // an up
  const Tensor expected = torch::zeros({1, 33}, torch::kBool);
  expected[0][20].fill_(true);
  expected[0][32].fill_(true);
  with_element_type(gate_up, [&]<class T>(T) {
    for (const auto* table : tables<T>()) {
      Tensor y = zeros({1, 33});
      table->activation_forward(kernels::Nonlinearity::kSilu, true, input<T>(gate_up), output<T>(y), 1, 33);
      EXPECT_TRUE(torch::equal(y.isnan(), expected)) << y;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Types, KernelTables, ::testing::Values(kF32, kBf16, kF64));

TEST(KernelTables, Bf16RoundsToNearestEvenAsAtenDoes) {
  // weight * 1: rows of one element with a combine weight reach the store alone.
  const Tensor weights = torch::cat({random_tensor({64}, 1, kF32), random_tensor({64}, 2, kF32) * 1e-39,
                                     torch::tensor({1.00390625F, 1.01171875F, 3.4e38F, -3.4e38F, 0.0F})});
  const Tensor rows = torch::ones({1, 1}, kBf16);
  const Tensor position = torch::zeros({weights.numel()}, torch::kInt64);
  for (const auto* table : tables<kernels::Bf16>()) {
    Tensor y = torch::zeros({weights.numel()}, kBf16);
    table->combine(input<kernels::Bf16>(rows), input<int64_t>(position), input<float>(weights),
                   output<kernels::Bf16>(y), weights.numel(), 1, 1);
    EXPECT_TRUE(torch::equal(y, weights.to(kBf16)));
  }
}

TEST(KernelTables, TheBestOneIsChosen) {
  EXPECT_EQ(&kernels::kernels<float>(), tables<float>().back());
  EXPECT_EQ(&kernels::kernels<double>(), tables<double>().back());
  EXPECT_EQ(&kernels::kernels<kernels::Bf16>(), tables<kernels::Bf16>().back());
}

}  // namespace
}  // namespace switchyard::test::kernels_test
