// Runs one of the fused loops (src/ops/kernels/kernels.h) on made-up numbers, for scripts/count_instructions.py to
// count the processor's instructions.
//
// usage: count_kernels --list             the kernels, one a line: KERNEL/TYPE, a tab, what is counted as an element
//        count_kernels --each             runs each of them once
//        count_kernels KERNEL/TYPE TIMES  prints a JSON line: elements (of all times), instruction_set, compiler
//
// Sizes are those of a layer of configs/bench/reference.yaml, with fewer rows: a step has more of the same.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>

#include "base/random.h"
#include "ops/kernels/kernels.h"

namespace {

using namespace switchyard::kernels;

constexpr int64_t kRows = 32;
constexpr int64_t kDim = 256;
constexpr int64_t kWidth = 512;
constexpr int64_t kVocab = 8192;
constexpr int64_t kTopK = 2;
constexpr int64_t kFewRows = 4;
constexpr int64_t kProductRows = 96;
constexpr int64_t kLogitRows = 4;
constexpr AttentionShape kAttention = {/*query_heads=*/1,         /*sequence=*/256,  /*head_dim=*/32,
                                       /*value_dim=*/32,
                                       /*query_stride=*/256 * 32, /*out_stride=*/32, /*scale=*/0.125};
constexpr int64_t kHeadNumbers = kAttention.sequence * kAttention.head_dim;

// Elements on a cache line of their own, as LibTorch's are; copies share them.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    auto* memory = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (memory == nullptr) throw std::bad_alloc();
    memory_ = std::shared_ptr<T[]>(memory, std::free);
  }
  operator T*() const { return memory_.get(); }  // NOLINT(google-explicit-constructor)

 private:
  std::shared_ptr<T[]> memory_;
};

void set(float& target, float value) { target = value; }
void set(Bf16& target, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  target.bits = static_cast<uint16_t>(bits >> 16);
}

// Uniform in [-1, 1), the same in every run.
template <class T>
Buffer<T> numbers(int64_t count, uint64_t seed) {
  Buffer<T> result(count);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t word = switchyard::mix_bits(switchyard::mix_bits(seed) ^ static_cast<uint64_t>(i));
    set(result[i], static_cast<float>(word >> 40) * 0x1p-23F - 1.0F);
  }
  return result;
}

// Distinct places in [0, count), in no order: 37 shares no factor with a power of two.
Buffer<int64_t> places(int64_t count) {
  Buffer<int64_t> result(count);
  for (int64_t i = 0; i < count; ++i) result[i] = i * 37 % count;
  return result;
}

struct Work {
  int64_t elements;  // of one run
  std::function<void()> run;
};

template <class T>
Work rms_norm_forward() {
  const auto x = numbers<T>(kRows * kDim, 1), y = numbers<T>(kRows * kDim, 2);
  const auto weight = numbers<Acc<T>>(kDim, 3), rstd = numbers<Acc<T>>(kRows, 4);
  return {kRows * kDim, [=] { kernels<T>().rms_norm_forward(x, weight, y, rstd, kRows, kDim, 1e-5); }};
}

template <class T>
Work rms_norm_backward() {
  const auto dy = numbers<T>(kRows * kDim, 1), x = numbers<T>(kRows * kDim, 2), dx = numbers<T>(kRows * kDim, 3);
  const auto weight = numbers<Acc<T>>(kDim, 4), rstd = numbers<Acc<T>>(kRows, 5), dweight = numbers<Acc<T>>(kDim, 6);
  return {kRows * kDim, [=] { kernels<T>().rms_norm_backward(dy, x, weight, rstd, dx, dweight, kRows, kDim); }};
}

template <class T>
Work swiglu_forward() {
  const auto gate_up = numbers<T>(kRows * 2 * kWidth, 1), y = numbers<T>(kRows * kWidth, 2);
  return {kRows * kWidth,
          [=] { kernels<T>().activation_forward(Nonlinearity::kSilu, true, gate_up, y, kRows, kWidth); }};
}

template <class T>
Work swiglu_backward() {
  const auto gate_up = numbers<T>(kRows * 2 * kWidth, 1), d_gate_up = numbers<T>(kRows * 2 * kWidth, 2);
  const auto dy = numbers<T>(kRows * kWidth, 3), y = numbers<T>(kRows * kWidth, 4);
  return {kRows * kWidth, [=] {
            kernels<T>().activation_backward(Nonlinearity::kSilu, true, gate_up, dy, d_gate_up, y, kRows, kWidth);
          }};
}

// A call for each position, as the model does.
template <class T>
Work rotate() {
  const int64_t head_dim = kAttention.head_dim;
  const auto in = numbers<T>(kHeadNumbers, 1), out = numbers<T>(kHeadNumbers, 2);
  const auto cos = numbers<Acc<T>>(kHeadNumbers / 2, 3), sin = numbers<Acc<T>>(kHeadNumbers / 2, 4);
  return {kHeadNumbers, [=] {
            for (int64_t s = 0; s < kAttention.sequence; ++s) {
              const int64_t at = s * head_dim;
              kernels<T>().rotate(in + at, out + at, cos + at / 2, sin + at / 2, head_dim, 1);
            }
          }};
}

// Scores that a causal mask leaves; the loops also compute those of a block's upper triangle.
constexpr int64_t kScores = kAttention.query_heads * kAttention.sequence * (kAttention.sequence + 1) / 2;

template <class T>
Work attention_forward() {
  const auto q = numbers<T>(kHeadNumbers, 1), k = numbers<T>(kHeadNumbers, 2), v = numbers<T>(kHeadNumbers, 3);
  const auto out = numbers<T>(kHeadNumbers, 4);
  const auto log_sums = numbers<Acc<T>>(kAttention.sequence, 5);
  const Buffer<char> scratch(static_cast<int64_t>(kernels<T>().attention_scratch(kAttention)));
  return {kScores, [=] { kernels<T>().attention_forward(kAttention, {q, k, v}, out, log_sums, scratch); }};
}

template <class T>
Work attention_backward() {
  const auto q = numbers<T>(kHeadNumbers, 1), k = numbers<T>(kHeadNumbers, 2), v = numbers<T>(kHeadNumbers, 3);
  const auto dq = numbers<T>(kHeadNumbers, 4), dk = numbers<T>(kHeadNumbers, 5), dv = numbers<T>(kHeadNumbers, 6);
  const auto d_out = numbers<T>(kHeadNumbers, 7);
  const auto log_sums = numbers<Acc<T>>(kAttention.sequence, 8);
  const Buffer<char> scratch(static_cast<int64_t>(kernels<T>().attention_scratch(kAttention)));
  kernels<T>().attention_forward(kAttention, {q, k, v}, dq, log_sums, scratch);  // for log_sums
  return {kScores, [=] {
            kernels<T>().attention_backward(kAttention, {q, k, v}, log_sums, d_out, {dq, dk, dv}, scratch);
          }};
}

template <class T>
Work few_rows_product() {
  const auto x = numbers<T>(kFewRows * kDim, 1), weight = numbers<T>(kWidth * kDim, 2);
  const auto out = numbers<T>(kFewRows * kWidth, 3);
  return {kFewRows * kWidth * kDim,
          [=] { kernels<T>().few_rows_product(x, weight, nullptr, out, kFewRows, kWidth, kDim, kWidth); }};
}

// Works in place: from the second time on the logits are gradients, which cost the same.
template <class T>
Work cross_entropy() {
  const auto logits = numbers<T>(kLogitRows * kVocab, 1);
  const auto losses = numbers<Acc<T>>(kLogitRows, 2);
  const auto targets = places(kLogitRows);
  return {kLogitRows * kVocab,
          [=] { kernels<T>().cross_entropy(logits, targets, losses, kLogitRows, kVocab, /*gradient=*/true, 1); }};
}

// One product of an expert's rows with its first weights.
template <class T>
Work product() {
  const auto x = numbers<T>(kProductRows * kDim, 1), weight = numbers<T>(kWidth * kDim, 2);
  const auto out = numbers<T>(kProductRows * kWidth, 3);
  const ProductShape shape = {ProductForm::kTransposedB, kProductRows, kWidth, kDim, kDim, kDim, kWidth};
  const Buffer<char> scratch(static_cast<int64_t>(kernels<T>().product_scratch(shape)));
  return {kProductRows * kWidth * kDim, [=] { kernels<T>().product(shape, x, weight, nullptr, out, scratch); }};
}

template <class T>
Work square_sum() {
  const auto x = numbers<T>(kRows * kDim, 1);
  return {kRows * kDim, [=] { kernels<T>().square_sum(x, kRows * kDim); }};
}

template <class T>
Work adamw() {
  const auto gradient = numbers<T>(kRows * kDim, 1);
  const auto parameter = numbers<Acc<T>>(kRows * kDim, 2), exp_avg = numbers<Acc<T>>(kRows * kDim, 3);
  const auto exp_avg_sq = numbers<Acc<T>>(kRows * kDim, 0);
  const auto copy = numbers<Bf16>(kRows * kDim, 4);
  return {kRows * kDim, [=] {
            kernels<T>().adamw(gradient, parameter, exp_avg, exp_avg_sq, copy, kRows * kDim,
                               {1, Acc<T>(0.999), Acc<T>(0.9), Acc<T>(0.95), Acc<T>(1e-4), 1, Acc<T>(1e-8)});
          }};
}

template <class T>
Work combine() {
  const auto rows = numbers<T>(kRows * kTopK * kDim, 1), out = numbers<T>(kRows * kDim, 2);
  const auto weights = numbers<Acc<T>>(kRows * kTopK, 3);
  const auto position = places(kRows * kTopK);
  return {kRows * kTopK * kDim, [=] { kernels<T>().combine(rows, position, weights, out, kRows, kTopK, kDim); }};
}

template <class T>
Work combine_backward() {
  const auto rows = numbers<T>(kRows * kTopK * kDim, 1), d_rows = numbers<T>(kRows * kTopK * kDim, 2);
  const auto dy = numbers<T>(kRows * kDim, 3);
  const auto weights = numbers<Acc<T>>(kRows * kTopK, 4), d_weights = numbers<Acc<T>>(kRows * kTopK, 5);
  const auto position = places(kRows * kTopK);
  return {kRows * kTopK * kDim,
          [=] { kernels<T>().combine_backward(rows, position, weights, dy, d_rows, d_weights, kRows, kTopK, kDim); }};
}

struct Kernel {
  const char* name;
  const char* element;
  Work (*floats)();
  Work (*bf16s)();
};

#define SWITCHYARD_KERNEL(name, element) \
  { #name, element, name < float>, name < Bf16> }
constexpr Kernel kKernels[] = {
    SWITCHYARD_KERNEL(rms_norm_forward, "element of x"),
    SWITCHYARD_KERNEL(rms_norm_backward, "element of x"),
    SWITCHYARD_KERNEL(swiglu_forward, "element of y"),
    SWITCHYARD_KERNEL(swiglu_backward, "element of y"),
    SWITCHYARD_KERNEL(rotate, "element of a head"),
    SWITCHYARD_KERNEL(attention_forward, "causal score"),
    SWITCHYARD_KERNEL(attention_backward, "causal score"),
    SWITCHYARD_KERNEL(few_rows_product, "multiply-add"),
    SWITCHYARD_KERNEL(product, "multiply-add"),
    SWITCHYARD_KERNEL(cross_entropy, "logit"),
    SWITCHYARD_KERNEL(combine, "element of rows"),
    SWITCHYARD_KERNEL(combine_backward, "element of rows"),
    SWITCHYARD_KERNEL(square_sum, "element"),
    SWITCHYARD_KERNEL(adamw, "element"),
};
#undef SWITCHYARD_KERNEL

// Calls f(KERNEL/TYPE, what an element is, function that makes the work) for every one.
template <class F>
void for_each_kernel(F&& f) {
  for (const Kernel& kernel : kKernels) {
    f(std::string(kernel.name) + "/float", kernel.element, kernel.floats);
    f(std::string(kernel.name) + "/bf16", kernel.element, kernel.bf16s);
  }
}

// Whether there is a kernel of this name.
bool run_times(const std::string& wanted, int64_t times) {
  bool found = false;
  for_each_kernel([&](const std::string& name, const char*, Work (*make)()) {
    if (name != wanted) return;
    found = true;
    const Work work = make();
    for (int64_t i = 0; i < times; ++i) work.run();
    std::printf("{\"elements\": %lld, \"instruction_set\": \"%s\", \"compiler\": \"%s\"}\n",
                static_cast<long long>(times * work.elements), instruction_set(), __VERSION__);
  });
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string word = argc > 1 ? argv[1] : "";
  if (argc == 2 && word == "--list") {
    for_each_kernel([](const std::string& name, const char* element, Work (*)()) {
      std::printf("%s\t%s\n", name.c_str(), element);
    });
    return 0;
  }
  if (argc == 2 && word == "--each") {
    for_each_kernel([](const std::string&, const char*, Work (*make)()) { make().run(); });
    return 0;
  }
  const int64_t times = argc == 3 ? std::strtoll(argv[2], nullptr, 10) : 0;
  if (times < 1 || !run_times(word, times)) {
    std::fputs("usage: count_kernels --list | --each | KERNEL/TYPE TIMES\n", stderr);
    return 2;
  }
  return 0;
}
