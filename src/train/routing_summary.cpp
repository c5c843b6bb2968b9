#include "train/routing_summary.h"

namespace switchyard {
namespace {

std::vector<double> numbers(const torch::Tensor& row) {
  const torch::Tensor flat = row.contiguous();
  const double* values = flat.const_data_ptr<double>();
  return {values, values + flat.numel()};
}

}  // namespace

std::vector<LayerRouting> summarise_routing(const RoutingTotals& totals,
                                            const std::vector<std::vector<int64_t>>& steps_since_used, int64_t window) {
  std::vector<LayerRouting> layers;
  if (totals.layers.empty()) return layers;
  const torch::Tensor counts = totals.tokens_per_expert.cpu();
  const torch::Tensor probabilities = totals.probability_sums.cpu();
  const torch::Tensor entropies = totals.token_entropy_sums.cpu();
  const torch::Tensor dropped = totals.dropped.cpu();
  const bool measured = totals.output_norms.defined();
  const torch::Tensor squares = measured ? totals.logit_squares.cpu() : torch::Tensor();
  const torch::Tensor logits = measured ? totals.logit_sums.cpu() : torch::Tensor();
  const torch::Tensor outputs = measured ? totals.output_norms.cpu() : torch::Tensor();
  for (size_t i = 0; i < totals.layers.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    LayerRouting layer{totals.layers[i], numbers(counts[row]), {}};
    // With Mixture of Depths, layers see different numbers of tokens.
    const int64_t num_tokens = measured ? logits[row][2].item<int64_t>() : totals.num_tokens;
    layer.statistics =
        routing_statistics(layer.tokens_per_expert, numbers(probabilities[row]), entropies[row].item<double>(),
                           num_tokens, dropped[row].item<double>(), steps_since_used[i], window);
    if (measured) {
      add_measures(layer.statistics, {.logit_squares = numbers(squares[row]),
                                      .logit_norm_sum = logits[row][0].item<double>(),
                                      .z_sum = logits[row][1].item<double>(),
                                      .num_tokens = logits[row][2].item<double>(),
                                      .output_norm_sums = numbers(outputs[row].select(1, 0)),
                                      .output_row_counts = numbers(outputs[row].select(1, 1))});
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace switchyard
