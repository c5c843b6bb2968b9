#include "train/routes.h"

#include <algorithm>

#include "base/random.h"

namespace switchyard {

using torch::Tensor;

namespace {

// The rows of `values` [N, K] at `rows` of `tokens` ones; zero elsewhere.
Tensor put_back(const Tensor& values, const Tensor& rows, int64_t tokens) {
  return torch::zeros({tokens, values.size(1)}, values.options()).index_copy(0, rows, values);
}

}  // namespace

std::vector<Routes> routes_of(const ModelOutput& output) {
  const torch::NoGradGuard no_grad;
  std::vector<Routes> all;
  for (const RouterOutput& router : output.routers) {
    Routes routes{router.layer, router.logits.size(1), router.expert_ids, router.weights.detach(), router.chosen};
    if (!routes.chosen.defined()) {
      routes.chosen = torch::ones_like(router.expert_ids, torch::TensorOptions(torch::kBool));
    }
    const auto depth = std::find_if(output.depths.begin(), output.depths.end(),
                                    [&](const DepthOutput& one) { return one.layer == router.layer; });
    if (depth != output.depths.end()) {
      const int64_t tokens = depth->passed.numel();
      routes.expert_ids = put_back(routes.expert_ids, depth->rows, tokens);
      routes.weights = put_back(routes.weights, depth->rows, tokens);
      routes.chosen = put_back(routes.chosen, depth->rows, tokens);
    }
    all.push_back(std::move(routes));
  }
  return all;
}

void append_choices(const Routes& routes, TokenChoices& choices) {
  const int64_t top_k = routes.expert_ids.size(1);
  const Tensor ids = routes.expert_ids.cpu().contiguous();
  const Tensor chosen = routes.chosen.cpu().contiguous();
  for (int64_t choice = 0; choice < ids.numel(); ++choice) {
    if (chosen.const_data_ptr<bool>()[choice]) {
      choices.choices.push_back(static_cast<int32_t>(ids.const_data_ptr<int64_t>()[choice]));
    }
    if ((choice + 1) % top_k == 0) choices.begin.push_back(static_cast<int64_t>(choices.choices.size()));
  }
}

Tensor multi_hot(const Routes& routes) {
  const Tensor ones = routes.chosen.to(torch::kFloat32);
  return torch::zeros({ones.size(0), routes.num_experts}, ones.options()).scatter_add_(1, routes.expert_ids, ones);
}

// The sum of one random word per expert, modulo 2^64: it does not depend on the order of the choices.
Tensor set_hashes(const Routes& routes) {
  std::vector<int64_t> words;
  for (int64_t expert = 0; expert < routes.num_experts; ++expert) {
    words.push_back(static_cast<int64_t>(mix_bits(static_cast<uint64_t>(expert))));
  }
  const Tensor table = torch::tensor(words, torch::kInt64).to(routes.expert_ids.device());
  return table.index_select(0, routes.expert_ids.flatten())
      .view_as(routes.expert_ids)
      .mul(routes.chosen.to(torch::kInt64))
      .sum(1);
}

}  // namespace switchyard
