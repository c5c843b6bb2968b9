#include "train/generate.h"

#include <numeric>

#include "base/random.h"

namespace switchyard {
namespace {

double uniform(uint64_t seed, int64_t position) {
  const uint64_t word = random_word(seed, RandomPurpose::kSampling, {static_cast<uint64_t>(position)});
  return static_cast<double>(word >> 11) * 0x1.0p-53;
}

struct Candidate {
  double probability;
  int32_t id;
};

// The order of a heap with the most probable on top, of equal ones the first of the vocabulary.
bool less_likely(const Candidate& a, const Candidate& b) {
  return a.probability != b.probability ? a.probability < b.probability : a.id > b.id;
}

// What top_k and top_p leave, the most probable first. Only these are brought into order.
std::vector<Candidate> most_likely(std::vector<Candidate> all, const SamplingOptions& options) {
  const size_t most = options.top_k > 0 ? static_cast<size_t>(options.top_k) : all.size();
  std::vector<Candidate> left;
  double sum = 0;
  std::make_heap(all.begin(), all.end(), less_likely);
  while (!all.empty() && left.size() < most && (left.empty() || sum < options.top_p)) {
    std::pop_heap(all.begin(), all.end(), less_likely);
    left.push_back(all.back());
    sum += left.back().probability;
    all.pop_back();
  }
  return left;
}

torch::Tensor token_row(const std::vector<int32_t>& tokens, torch::Device device) {
  return torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), torch::kInt64).unsqueeze(0).to(device);
}

}  // namespace

int32_t sample_token(const torch::Tensor& logits, const SamplingOptions& options, int64_t position) {
  const torch::Tensor wide = logits.detach().to(torch::kCPU, torch::kFloat64);
  const int64_t count = wide.numel();
  if (options.temperature <= 0) {
    const double* logit = wide.const_data_ptr<double>();
    return static_cast<int32_t>(std::max_element(logit, logit + count) - logit);
  }
  // The largest first: a low temperature would take both of two large logits to infinity.
  const torch::Tensor probabilities = torch::softmax((wide - wide.max()) / options.temperature, 0);
  std::vector<Candidate> candidates;
  candidates.reserve(static_cast<size_t>(count));
  for (int32_t id = 0; id < count; ++id) candidates.push_back({probabilities.const_data_ptr<double>()[id], id});
  if (options.top_k > 0 || options.top_p < 1) candidates = most_likely(std::move(candidates), options);
  const auto add = [](double sum, const Candidate& c) { return sum + c.probability; };
  double left = uniform(options.seed, position) * std::accumulate(candidates.begin(), candidates.end(), 0.0, add);
  for (const Candidate& candidate : candidates) {
    left -= candidate.probability;
    if (left < 0) return candidate.id;
  }
  return candidates.back().id;
}

std::vector<int32_t> generate(Transformer& model, const std::vector<int32_t>& prompt, int32_t end_of_text,
                              int64_t num_ids, const SamplingOptions& options,
                              const std::function<bool(int32_t)>& on_token) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK_VALUE(!prompt.empty(), "generate: the prompt holds no token");
  const torch::Device device = model->output_weight().device();
  KvCache cache = model->make_cache(1, static_cast<int64_t>(prompt.size()) + options.max_new_tokens);
  std::vector<int32_t> generated;
  std::vector<int32_t> next = prompt;
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    const torch::Tensor logits = model->next_token_logits(model->forward(token_row(next, device), &cache));
    const int32_t token = sample_token(logits.narrow(0, 0, std::min(num_ids, logits.size(0))), options, i);
    if (token == end_of_text) break;
    generated.push_back(token);
    if (!on_token(token)) break;
    next = {token};
  }
  return generated;
}

}  // namespace switchyard
