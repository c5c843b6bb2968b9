#include "train/generate.h"

#include <numeric>

#include "base/random.h"

namespace switchyard {
namespace {

double uniform(uint64_t seed, int64_t position) {
  const uint64_t word = random_word(seed, RandomPurpose::kSampling, {static_cast<uint64_t>(position)});
  return static_cast<double>(word >> 11) * 0x1.0p-53;
}

// How many of the probabilities, sorted from the largest, top_k and top_p leave.
size_t candidates(const std::vector<double>& sorted, const SamplingOptions& options) {
  size_t count = sorted.size();
  if (options.top_k > 0) count = std::min(count, static_cast<size_t>(options.top_k));
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += sorted[i];
    if (sum >= options.top_p) return i + 1;
  }
  return count;
}

torch::Tensor token_row(const std::vector<int32_t>& tokens, torch::Device device) {
  return torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), torch::kInt64).unsqueeze(0).to(device);
}

}  // namespace

int32_t sample_token(const torch::Tensor& logits, const SamplingOptions& options, int64_t position) {
  const torch::Tensor wide = logits.detach().to(torch::kCPU, torch::kFloat64);
  const auto [values, ids] = wide.sort(/*stable=*/true, 0, /*descending=*/true);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  if (options.temperature <= 0) return static_cast<int32_t>(id[0]);
  const torch::Tensor probabilities = torch::softmax(values / options.temperature, 0);
  const double* p = probabilities.const_data_ptr<double>();
  const std::vector<double> sorted(p, p + probabilities.numel());
  const size_t count = candidates(sorted, options);
  const double total = std::accumulate(sorted.begin(), sorted.begin() + static_cast<int64_t>(count), 0.0);
  double left = uniform(options.seed, position) * total;
  for (size_t i = 0; i < count; ++i) {
    left -= sorted[i];
    if (left < 0) return static_cast<int32_t>(id[i]);
  }
  return static_cast<int32_t>(id[count - 1]);
}

std::vector<int32_t> generate(Transformer& model, const std::vector<int32_t>& prompt, int32_t end_of_text,
                              const SamplingOptions& options, const std::function<bool(int32_t)>& on_token) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK_VALUE(!prompt.empty(), "generate: the prompt holds no token");
  const torch::Device device = model->output_weight().device();
  KvCache cache = model->make_cache(1, static_cast<int64_t>(prompt.size()) + options.max_new_tokens);
  std::vector<int32_t> generated;
  std::vector<int32_t> next = prompt;
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    const torch::Tensor logits = model->next_token_logits(model->forward(token_row(next, device), &cache));
    const int32_t token = sample_token(logits, options, i);
    if (token == end_of_text) break;
    generated.push_back(token);
    if (!on_token(token)) break;
    next = {token};
  }
  return generated;
}

}  // namespace switchyard
