#include "model/depth_router.h"

#include <algorithm>
#include <cmath>

#include "model/moe/router.h"

namespace switchyard {

using torch::Tensor;

namespace {

// Places [B, count] of the largest scores [B, S] of each row, in ascending order; ties go to the earlier place.
Tensor places_of_best(const Tensor& scores, int64_t count) {
  const Tensor best = torch::argsort(scores, /*stable=*/true, 1, /*descending=*/true).narrow(1, 0, count);
  return std::get<0>(best.sort(1));
}

// All places [B, S] of each row, those that pass first; otherwise in ascending order.
Tensor places_passing_first(const Tensor& passed) {
  return torch::argsort(passed.to(torch::kUInt8), /*stable=*/true, 1, /*descending=*/true);
}

}  // namespace

int64_t depth_capacity(int64_t sequence, double capacity_factor) {
  const double places = capacity_factor * static_cast<double>(sequence);
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(places - 1e-9)), 1, sequence);
}

DepthRouterImpl::DepthRouterImpl(const MixtureOfDepthsConfig& config, int64_t hidden_size, int64_t layer)
    : capacity_factor_(config.capacity_factor), layer_(layer) {
  weight_ = register_parameter("weight", torch::empty({1, hidden_size}));
  predictor_weight_ = register_parameter("predictor_weight", torch::empty({1, hidden_size}));
  predictor_bias_ = register_parameter("predictor_bias", torch::empty({1}));
}

DepthSelection DepthRouterImpl::select(const DepthOutput& output, bool incremental) const {
  const torch::NoGradGuard no_grad;
  const int64_t sequence = output.logits.size(1);
  DepthSelection selection;
  if (incremental) {
    selection.places = output.passed[0].nonzero().view({1, -1});
  } else if (is_training()) {
    selection.places = places_of_best(output.logits, depth_capacity(sequence, capacity_factor_));
  } else {
    selection.places = places_passing_first(output.passed);
    selection.active = output.passed.gather(1, selection.places).flatten();
  }
  const Tensor first = sequence * torch::arange(output.logits.size(0), selection.places.options());
  selection.rows = (selection.places + first.unsqueeze(1)).flatten();
  return selection;
}

DepthRouterImpl::Output DepthRouterImpl::forward(const Tensor& x, bool incremental) {
  TORCH_CHECK_VALUE(!incremental || x.size(0) == 1, "mixture_of_depths: a cache of ", x.size(0),
                    " sequences; tokens that pass differ in number between sequences, so it must be of 1");
  const Tensor wide = x.flatten(0, 1).to(weight_.scalar_type());
  const auto as_sequences = [&](const Tensor& values) { return values.view({x.size(0), x.size(1)}); };
  Output result;
  DepthOutput& output = result.output;
  output.layer = layer_;
  output.logits = as_sequences(router_logits(wide, weight_));
  output.predictor_logits = as_sequences(router_logits(wide.detach(), predictor_weight_) + predictor_bias_);
  const bool by_rank = is_training() && !incremental;
  if (!by_rank) output.passed = output.predictor_logits.detach() > 0;
  result.selection = select(output, incremental);
  output.rows = result.selection.rows;
  if (by_rank) {
    output.passed =
        torch::zeros_like(output.logits, torch::TensorOptions(torch::kBool)).scatter_(1, result.selection.places, true);
  }
  result.selection.weights = take_per_token(output.logits.flatten(), result.selection);
  return result;
}

Tensor take_selected(const Tensor& x, const DepthSelection& selection) {
  return x.reshape({-1, x.size(-1)})
      .index_select(0, selection.rows)
      .view({selection.places.size(0), selection.places.size(1), -1});
}

Tensor take_per_token(const Tensor& values, const DepthSelection& selection) {
  return values.index_select(0, selection.rows);
}

Tensor add_to_selected(const Tensor& x, const DepthSelection& selection, const Tensor& taken, const Tensor& f) {
  const Tensor before = taken.flatten(0, 1);
  // In the type of r, which is the wider one: one rounding.
  Tensor after = (before + selection.weights.unsqueeze(1) * f.flatten(0, 1)).to(x.scalar_type());
  if (selection.active.defined()) after = torch::where(selection.active.unsqueeze(1), after, before);
  // Rows are all different, so that nothing depends on the order in which they are written.
  return x.flatten(0, 1).index_copy(0, selection.rows, after).view_as(x);
}

}  // namespace switchyard
