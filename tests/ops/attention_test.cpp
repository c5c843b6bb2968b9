#include "ops/attention.h"

#include <cmath>
#include <limits>

#include "tests/support/allocation_meter.h"
#include "tests/support/devices.h"
#include "tests/support/operation.h"

namespace switchyard::test::attention_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

RotaryTable table_for(const torch::Tensor& x, int64_t count, int64_t head_dim) {
  return rotary_table(/*first=*/2, count, head_dim, /*theta=*/100.0, torch::TensorOptions(x.scalar_type()));
}

Operation splitting(int64_t heads, int64_t kv_heads, bool fused) {
  return [=](const Tensors& x) {
    const auto table = table_for(x[0], x[0].size(1), x[0].size(2) / (heads + 2 * kv_heads));
    const Heads parts =
        fused ? split_heads(x[0], heads, kv_heads, table) : split_heads_reference(x[0], heads, kv_heads, table);
    return Tensors{parts.query, parts.key, parts.value};
  };
}

const Operation kFused = [](const Tensors& x) { return Tensors{causal_attention(x[0], x[1], x[2])}; };
const Operation kReference = [](const Tensors& x) { return Tensors{causal_attention_reference(x[0], x[1], x[2])}; };

Tensors random_heads(int64_t batch, int64_t heads, int64_t kv_heads, int64_t sequence, int64_t head_dim) {
  return {random_tensor({batch, heads, sequence, head_dim}, 1), random_tensor({batch, kv_heads, sequence, head_dim}, 2),
          random_tensor({batch, kv_heads, sequence, head_dim}, 3)};
}

Operation limited(const AttentionLimits& limits) {
  return [limits](const Tensors& x) { return Tensors{causal_attention(x[0], x[1], x[2], limits)}; };
}

// Attention as the formula says it, one query at a time.
torch::Tensor naive_attention(const Tensors& x, const AttentionLimits& limits = {}) {
  const int64_t past = x[1].size(2) - x[0].size(2);
  const int64_t group = x[0].size(1) / x[1].size(1);
  torch::Tensor y = torch::zeros({x[0].size(0), x[0].size(2), x[0].size(1), x[2].size(3)}, kF64);
  for (int64_t b = 0; b < x[0].size(0); ++b) {
    for (int64_t h = 0; h < x[0].size(1); ++h) {
      for (int64_t s = 0; s < x[0].size(2); ++s) {
        const int64_t end = past + s + 1;
        const int64_t begin = std::max<int64_t>(0, end - limits.window.value_or(end));
        const auto seen = [&](const torch::Tensor& all) { return all[b][h / group].narrow(0, begin, end - begin); };
        auto scores = torch::mv(seen(x[1]), x[0][b][h][s]) / std::sqrt(static_cast<double>(x[0].size(3)));
        if (limits.softcap) scores = *limits.softcap * torch::tanh(scores / *limits.softcap);
        y[b][s][h] = torch::mv(seen(x[2]).t(), torch::softmax(scores, 0));
      }
    }
  }
  return y.flatten(2);
}

TEST(Rotary, AnglesByHand) {
  // hd = 4, theta = 100: the pairs turn by 1 and by 100^(-2/4) = 0.1 a position.
  const auto table = rotary_table(3, 2, 4, 100.0, torch::TensorOptions(kF64));
  EXPECT_TRUE(close(table.cos, doubles({std::cos(3.0), std::cos(0.3), std::cos(4.0), std::cos(0.4)}).view({2, 2})));
  EXPECT_TRUE(close(table.sin, doubles({std::sin(3.0), std::sin(0.3), std::sin(4.0), std::sin(0.4)}).view({2, 2})));
  EXPECT_EQ(rotary_table(0, 1, 4, 100.0, torch::TensorOptions(kBf16)).cos.scalar_type(), kF32);
}

TEST(Rotary, PairsAreTheHalvesOfAHead) {
  // One position, at 3; q = (1, 2, 0, 0), k = (0, 0, 1, 2), v as it is.
  const auto table = rotary_table(3, 1, 4, 100.0, torch::TensorOptions(kF64));
  const auto heads = split_heads(doubles({1, 2, 0, 0, 0, 0, 1, 2, 5, 6, 7, 8}).view({1, 1, 12}), 1, 1, table);
  const double c = std::cos(3.0), s = std::sin(3.0), c2 = std::cos(0.3), s2 = std::sin(0.3);
  EXPECT_TRUE(close(heads.query.flatten(), doubles({c, 2 * c2, s, 2 * s2})));
  EXPECT_TRUE(close(heads.key.flatten(), doubles({-s, -2 * s2, c, 2 * c2})));
  EXPECT_TRUE(close(heads.value.flatten(), doubles({5, 6, 7, 8})));
}

TEST(SplitHeads, GradientsByCentralDifferences) {
  // 3 query heads, 1 key/value head of width 6.
  EXPECT_TRUE(operation_gradients_match(splitting(3, 1, true), {random_tensor({2, 3, 5 * 6}, 1)}, {.samples = 180}));
}

TEST(SplitHeads, OneUsedResultIsEnough) {
  const auto qkv = random_tensor({1, 2, 16}, 1).requires_grad_();
  split_heads(qkv, 2, 1, table_for(qkv, 2, 4)).value.sum().backward();
  EXPECT_TRUE(close(qkv.grad(), torch::cat({torch::zeros({1, 2, 12}, kF64), torch::ones({1, 2, 4}, kF64)}, 2)));
}

TEST(SplitHeads, RefusesTablesThatDoNotFit) {
  const auto qkv = random_tensor({1, 4, 16}, 1);
  const auto options = torch::TensorOptions(kF64);
  EXPECT_THROW(split_heads(qkv, 2, 1, rotary_table(0, 3, 4, 100.0, options)), c10::ValueError);  // too short
  EXPECT_THROW(split_heads(qkv, 2, 1, rotary_table(0, 4, 2, 100.0, options)), c10::ValueError);  // another width
  EXPECT_THROW(split_heads(qkv, 2, 1, rotary_table(0, 4, 4, 100.0, options.dtype(kF32))), c10::ValueError);
  EXPECT_THROW(split_heads(random_tensor({1, 4, 12}, 1), 2, 1, rotary_table(0, 4, 2, 100.0, options)),
               c10::ValueError);  // an odd head width
}

class AttentionTypes : public ::testing::TestWithParam<torch::ScalarType> {};

TEST_P(AttentionTypes, SplittingMatchesTheReference) {
  for (const int64_t head_dim : {2, 14, 66}) {
    EXPECT_TRUE(fused_matches_reference(splitting(4, 2, true), splitting(4, 2, false),
                                        {random_tensor({2, 3, 8 * head_dim}, 1)}, GetParam()));
  }
}

TEST_P(AttentionTypes, SplittingTakesStridedInputs) {
  const auto qkv = random_tensor({2, 3, 32}, 1, GetParam());
  const Tensors expected = splitting(4, 2, true)({qkv});
  const Tensors actual = splitting(4, 2, true)({with_gaps(qkv)});
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(torch::equal(actual[i], expected[i]));
}

// One position sees itself alone: the output are the values, and scores have no gradient but roundings, which are held
// against the size of the values' gradient, since their own expected size is zero.
TEST_P(AttentionTypes, AttentionOfOnePosition) {
  const OneThread one_thread;
  Tensors x = random_heads(2, 4, 2, 1, 6);
  for (torch::Tensor& heads : x) heads = heads.to(GetParam());
  const Tensors wide{x[0].to(kF64), x[1].to(kF64), x[2].to(kF64)};
  const Tensors expected = results_and_gradients(kReference, wide);
  for (const Operation& operation : {kFused, kReference}) {
    const Tensors actual = results_and_gradients(operation, x);
    EXPECT_TRUE(close(actual[0], expected[0], GetParam()));
    EXPECT_TRUE(close(actual[3], expected[3], GetParam()));
    const double size = expected[3].abs().mean().item<double>();
    for (const size_t scores : {1, 2}) {
      EXPECT_LE(actual[scores].abs().max().item<double>(), tolerance(GetParam()) * size) << "input " << scores - 1;
    }
  }
}

TEST_P(AttentionTypes, AttentionMatchesTheReference) {
  for (const int64_t sequence : {2, 7, 33}) {
    EXPECT_TRUE(fused_matches_reference(kFused, kReference, random_heads(2, 4, 2, sequence, 6), GetParam()))
        << "S = " << sequence;
  }
  EXPECT_TRUE(fused_matches_reference(kFused, kReference, random_heads(1, 3, 1, 9, 33), GetParam()));
}

TEST_P(AttentionTypes, AttentionTakesStridedInputs) {
  Tensors x = random_heads(2, 4, 2, 5, 6);
  for (auto& t : x) t = t.to(GetParam());
  EXPECT_TRUE(identical(kFused({with_gaps(x[0]), with_gaps(x[1]), with_gaps(x[2])})[0], kFused(x)[0]));
}

TEST_P(AttentionTypes, LargeScores) {
  // Scores of some +-80: powers of two, so that bfloat16 products are exact and probabilities nearly one-hot.
  Tensors x = random_heads(1, 2, 2, 17, 4);
  x[0] = torch::where(x[0] > 0, 4.0, -4.0).to(kF64);
  x[1] = torch::where(x[1] > 0, 8.0, -8.0).to(kF64);
  const auto y = kFused({x[0].to(GetParam()), x[1].to(GetParam()), x[2].to(GetParam())})[0];
  EXPECT_TRUE(close(y, naive_attention(x), GetParam()));
}

TEST_P(AttentionTypes, NanStaysVisibleAndDoesNotReachThePast) {
  Tensors x = random_heads(1, 1, 1, 6, 4);
  for (auto& t : x) t = t.to(GetParam());
  x[1][0][0][3].fill_(kNan);  // the key of position 3
  const auto y = kFused(x)[0];
  EXPECT_FALSE(y[0].narrow(0, 0, 3).isnan().any().item<bool>());
  EXPECT_TRUE(y[0].narrow(0, 3, 3).isnan().all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionTypes, ::testing::Values(kF32, kBf16, kF64));

TEST(Attention, GradientsByCentralDifferences) {
  EXPECT_TRUE(operation_gradients_match(kFused, random_heads(2, 4, 2, 5, 3)));
  EXPECT_TRUE(operation_gradients_match(kFused, random_heads(1, 2, 2, 3, 2)));
}

TEST(Attention, MatchesTheFormula) {
  const Tensors square = random_heads(2, 4, 2, 7, 3);
  EXPECT_TRUE(close(kFused(square)[0], naive_attention(square)));
  EXPECT_TRUE(close(kReference(square)[0], naive_attention(square)));
}

TEST(Attention, QueriesAfterACache) {
  for (const int64_t count : {1, 3, 5}) {
    Tensors x = random_heads(2, 4, 2, 5, 3);
    x[0] = x[0].narrow(2, 5 - count, count);
    EXPECT_TRUE(close(kFused(x)[0], naive_attention(x))) << count;
  }
}

const AttentionLimits kLimits[] = {{1, std::nullopt}, {2, std::nullopt},   {5, std::nullopt},
                                   {9, std::nullopt}, {std::nullopt, 0.7}, {3, 0.7}};

TEST(LimitedAttention, MatchesTheFormula) {
  for (const auto& limits : kLimits) {
    for (const int64_t count : {1, 2, 6, 9}) {  // the last queries, behind a cache
      Tensors x = random_heads(2, 4, 2, 9, 3);
      x[0] = x[0].narrow(2, 9 - count, count);
      EXPECT_TRUE(close(limited(limits)(x)[0], naive_attention(x, limits)))
          << limits.window.value_or(0) << ' ' << limits.softcap.value_or(0) << ' ' << count;
    }
  }
}

TEST(LimitedAttention, ByHand) {
  // Scores 2 and -2 (hd = 1) under a cap of 1: tanh 2 and -tanh 2. With a window of 1 a query sees itself alone.
  const auto row = [](const std::vector<double>& values) { return doubles(values).view({1, 1, -1, 1}); };
  const Tensors x = {row({0, 2}), row({1, -1}), row({3, 5})};
  const double share = 1 / (1 + std::exp(-2 * std::tanh(2.0)));
  EXPECT_TRUE(close(limited({std::nullopt, 1.0})(x)[0].flatten(), doubles({3, 3 * share + 5 * (1 - share)})));
  EXPECT_TRUE(close(limited({1, std::nullopt})(x)[0].flatten(), doubles({3, 5})));
}

TEST(LimitedAttention, TheReferenceTakesAWindow) {
  for (const int64_t window : {1, 2, 5, 9, 20}) {
    for (const int64_t count : {1, 2, 6, 9}) {
      Tensors x = random_heads(2, 4, 2, 9, 3);
      x[0] = x[0].narrow(2, 9 - count, count);
      EXPECT_TRUE(close(causal_attention_reference(x[0], x[1], x[2], window), naive_attention(x, {window, {}})))
          << window << ' ' << count;
    }
  }
}

TEST(Attention, SameOnCuda) {
  SWITCHYARD_NEEDS(torch::kCUDA);
  for (const auto& limits : {AttentionLimits{}, AttentionLimits{5, std::nullopt}, AttentionLimits{5, 0.7}}) {
    for (const auto type : {kF32, kBf16}) {
      Tensors inputs;
      for (const auto& x : random_heads(2, 4, 2, 40, 16)) inputs.push_back(x.to(type));
      const Operation on_cuda = [&](const Tensors& x) {
        return Tensors{limited(limits)({x[0].cuda(), x[1].cuda(), x[2].cuda()})[0].cpu()};
      };
      const Tensors expected = results_and_gradients(limited(limits), inputs);
      const Tensors actual = results_and_gradients(on_cuda, inputs);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(close(actual[i], expected[i], type)) << i << type;
    }
  }
}

TEST(LimitedAttention, AWideWindowIsNone) {
  const Tensors x = random_heads(2, 4, 2, 7, 3);
  EXPECT_TRUE(identical(limited({7, std::nullopt})(x)[0], kFused(x)[0]));
}

TEST(LimitedAttention, GradientsByCentralDifferences) {
  for (const auto& limits :
       {AttentionLimits{2, std::nullopt}, AttentionLimits{std::nullopt, 0.8}, AttentionLimits{3, 0.8}}) {
    EXPECT_TRUE(operation_gradients_match(limited(limits), random_heads(2, 4, 2, 5, 3)));
  }
  Tensors x = random_heads(1, 2, 1, 6, 3);  // after a cache, whose first positions nobody sees
  x[0] = x[0].narrow(2, 4, 2);
  const auto gradients = results_and_gradients(limited({2, 0.8}), x);
  EXPECT_TRUE(gradients[2].narrow(2, 0, 3).eq(0).all().item<bool>());
  EXPECT_TRUE(operation_gradients_match(limited({2, 0.8}), x));
}

TEST(LimitedAttention, TypesAgree) {
  const OneThread one_thread;
  for (const auto type : {kF32, kBf16}) {
    for (const auto& limits : kLimits) {
      Tensors rounded, wide;
      for (const auto& t : random_heads(2, 4, 2, 9, 6)) {
        rounded.push_back(t.to(type));
        wide.push_back(rounded.back().to(kF64));
      }
      const auto y = limited(limits)(rounded)[0];
      EXPECT_EQ(y.scalar_type(), type);
      EXPECT_TRUE(close(y, limited(limits)(wide)[0], type));
    }
  }
}

TEST(LimitedAttention, NanOutsideTheWindowStaysOutside) {
  Tensors x = random_heads(1, 1, 1, 6, 4);
  x[1][0][0][2].fill_(kNan);  // the key of position 2, which positions 2 to 4 see
  const auto seen = limited({3, std::nullopt})(x)[0][0].isnan().all(1);
  EXPECT_TRUE(torch::equal(seen, torch::tensor({false, false, true, true, true, false})));
}

// Written down as whole matrices.
Tensors whole_attention(const Tensors& x, const AttentionLimits& limits) {
  const int64_t sequence = x[0].size(2), positions = x[1].size(2);
  const auto heads = [&](const torch::Tensor& t) { return t.repeat_interleave(x[0].size(1) / t.size(1), 1); };
  auto scores = torch::matmul(x[0], heads(x[1]).transpose(2, 3)) / std::sqrt(double(x[0].size(3)));
  if (limits.softcap) scores = torch::tanh(scores / *limits.softcap) * *limits.softcap;
  const auto own = torch::arange(positions - sequence, positions).unsqueeze(1), other = torch::arange(positions);
  const auto seen = (other <= own).logical_and(other > own - limits.window.value_or(positions));
  const auto p = torch::softmax(scores.masked_fill(seen.logical_not(), -1e300), -1);
  return {torch::matmul(p, heads(x[2])).transpose(1, 2).flatten(2)};
}

TEST(LimitedAttention, SeveralBlocksMatchTheFormulaAndItsGradients) {
  for (const auto& limits : {AttentionLimits{50, {}}, AttentionLimits{200, 0.7}, AttentionLimits{{}, 0.7}}) {
    for (const int64_t count : {300, 130}) {  // queries, of 300 positions
      Tensors x = random_heads(2, 4, 2, 300, 3);
      x[0] = x[0].narrow(2, 300 - count, count).contiguous();
      const auto expected = results_and_gradients([&](const Tensors& t) { return whole_attention(t, limits); }, x);
      const auto actual = results_and_gradients(limited(limits), x);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(close(actual[i], expected[i])) << i << ' ' << count;
    }
  }
}

// Peak of the bytes beyond the inputs, through both passes.
int64_t peak_of(const Operation& attention, Tensors x) {
  for (auto& t : x) t = t.to(kF32).detach().requires_grad_();
  AllocationMeter& meter = AllocationMeter::installed();
  meter.restart_peak();
  const int64_t before = meter.live();
  torch::autograd::grad({attention(x)[0].sum()}, x);
  return meter.peak() - before;
}

TEST(LimitedAttention, KeepsNoScoresOfTheWholeSequence) {
  const OneThread one_thread;
  const int64_t sequence = 2560, square = sequence * sequence * 4;  // 26 MB a head
  for (const auto& limits : {AttentionLimits{64, {}}, AttentionLimits{{}, 0.7}}) {
    EXPECT_LT(peak_of(limited(limits), random_heads(1, 1, 1, sequence, 8)), square / 2);
  }
  Tensors narrow_values = random_heads(1, 1, 1, sequence, 8);
  narrow_values[2] = narrow_values[2].narrow(3, 0, 5).contiguous();
  EXPECT_LT(peak_of(kFused, narrow_values), square / 4);
}

TEST(Attention, ValuesMayHaveAnotherWidth) {
  const OneThread one_thread;
  for (const int64_t sequence : {5, 2050}) {  // the fused loop, and ATen's blocks
    Tensors x = random_heads(1, 2, 1, sequence, 4);
    x[2] = random_tensor({1, 1, sequence, 3}, 4);
    EXPECT_TRUE(close(kFused(x)[0], naive_attention(x))) << sequence;
  }
  Tensors x = random_heads(1, 2, 2, 5, 4);
  x[2] = random_tensor({1, 2, 5, 3}, 4);
  EXPECT_TRUE(operation_gradients_match(kFused, x));
  EXPECT_TRUE(operation_gradients_match(limited({2, 0.8}), x));
}

TEST(SplitHeads, WithoutRotaryIsALayoutAlone) {
  const auto qkv = random_tensor({2, 3, 4 * 5}, 1);  // 2 query heads, 1 key/value head of width 5
  const Heads heads = split_heads(qkv, 2, 1);
  EXPECT_TRUE(torch::equal(heads.query[1][1][2], qkv[1][2].narrow(0, 5, 5)));
  EXPECT_TRUE(torch::equal(heads.key[1][0][2], qkv[1][2].narrow(0, 10, 5)));
  EXPECT_TRUE(torch::equal(heads.value[1][0][2], qkv[1][2].narrow(0, 15, 5)));
  const auto split = [](bool fused) {
    return [=](const Tensors& x) {
      const Heads parts = fused ? split_heads(x[0], 2, 1) : split_heads_reference(x[0], 2, 1);
      return Tensors{parts.query, parts.key, parts.value};
    };
  };
  EXPECT_TRUE(fused_matches_reference(split(true), split(false), {qkv}, kBf16));
}

// Rows of a cache, which has room for more, and grouped heads.
TEST(Attention, OneQueryBehindACacheMatchesTheFormula) {
  const torch::NoGradGuard no_grad;
  for (const auto type : {kF64, kF32, kBf16}) {
    for (const int64_t positions : {1, 5, 40}) {
      for (const int64_t value_dim : {3, 300}) {
        const auto query = random_tensor({2, 4, 1, 7}, 1).to(type);
        const auto key = random_tensor({2, 2, 50, 7}, 2).to(type).narrow(2, 0, positions);
        const auto value = random_tensor({2, 2, 50, value_dim}, 3).to(type).narrow(2, 0, positions);
        const auto expected = naive_attention({query.to(kF64), key.to(kF64), value.to(kF64)});
        EXPECT_TRUE(close(causal_attention(query, key, value), expected, type)) << positions << ' ' << value_dim;
      }
    }
  }
}

TEST(Attention, LongSequencesMatchTheFormula) {
  for (const int64_t sequence : {520, 2050}) {  // beyond 2048 positions ATen's blocks take over
    const Tensors x = random_heads(1, 1, 1, sequence, 2);
    EXPECT_TRUE(close(kFused(x)[0], naive_attention(x))) << sequence;
  }
}

}  // namespace
}  // namespace switchyard::test::attention_test
