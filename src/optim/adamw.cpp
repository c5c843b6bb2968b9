#include "optim/adamw.h"

#include <cmath>

#include "ops/fused.h"

namespace switchyard {

using torch::Tensor;

namespace {

std::vector<bool> decayed_of(const NamedTensors& parameters) {
  std::vector<bool> decayed;
  for (const auto& [name, parameter] : parameters) decayed.push_back(is_decayed(name, parameter));
  return decayed;
}

// Elements that one task takes: sums are made of pieces of this size, whatever the number of threads.
constexpr int64_t kPieceElements = 1 << 15;

struct Piece {
  size_t tensor = 0;
  int64_t begin = 0;
  int64_t count = 0;
};

// Cuts tensors of these sizes.
std::vector<Piece> pieces_of(const std::vector<int64_t>& sizes) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < sizes.size(); ++i) {
    for (int64_t begin = 0; begin < sizes[i]; begin += kPieceElements) {
      pieces.push_back({i, begin, std::min(kPieceElements, sizes[i] - begin)});
    }
  }
  return pieces;
}

template <class F>
void for_each_piece(const std::vector<Piece>& pieces, const F& f) {
  int64_t elements = 0;
  for (const Piece& piece : pieces) elements += piece.count;
  const auto count = static_cast<int64_t>(pieces.size());
  parallel_rows(count, elements / std::max<int64_t>(1, count), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(static_cast<size_t>(i));
  });
}

}  // namespace

std::array<std::string, 2> moment_names(const std::string& name) { return {name + ".exp_avg", name + ".exp_avg_sq"}; }

bool is_decayed(const std::string& name, const Tensor& parameter) {
  return parameter.dim() >= 2 && !name.ends_with("_bias");
}

AdamW::AdamW(NamedTensors parameters, const OptimizerConfig& config)
    : AdamW(parameters, decayed_of(parameters), config) {}

AdamW::AdamW(NamedTensors parameters, std::vector<bool> decayed, const OptimizerConfig& config,
             std::vector<Tensor> copies)
    : parameters_(std::move(parameters)), decayed_(std::move(decayed)), copies_(std::move(copies)), config_(config) {
  copies_.resize(parameters_.size());
  for (const auto& [name, parameter] : parameters_) {
    exp_avg_.push_back(torch::zeros_like(parameter, torch::MemoryFormat::Contiguous).detach());
    exp_avg_sq_.push_back(torch::zeros_like(exp_avg_.back()));
  }
}

Tensor joint_norm(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return torch::zeros({});
  const auto type = accumulate_type(tensors[0]);
  if (!has_fused_kernel(tensors[0])) return torch::stack(at::_foreach_norm(tensors, 2, type)).norm();
  std::vector<Tensor> dense;
  std::vector<int64_t> sizes;
  for (const Tensor& tensor : tensors) {
    dense.push_back(tensor.contiguous());
    sizes.push_back(tensor.numel());
  }
  const std::vector<Piece> pieces = pieces_of(sizes);
  std::vector<double> sums(pieces.size());
  for_each_piece(pieces, [&](size_t i) {
    const Tensor& tensor = dense[pieces[i].tensor];
    with_element_type(tensor, [&]<class T>(T) {
      sums[i] = kernels::kernels<T>().square_sum(input<T>(tensor) + pieces[i].begin, pieces[i].count);
    });
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return torch::full({}, std::sqrt(sum), torch::TensorOptions(type));
}

Tensor AdamW::gradient_norm() const {
  std::vector<Tensor> gradients;
  for (const size_t i : changing()) gradients.push_back(parameters_[i].second.grad());
  return joint_norm(gradients);
}

std::vector<size_t> AdamW::changing() const {
  std::vector<size_t> indices;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].second.grad().defined()) indices.push_back(i);
  }
  return indices;
}

void AdamW::step(double lr, const Tensor& norm) {
  const torch::NoGradGuard no_grad;
  ++steps_;
  if (parameters_.empty()) return;
  if (has_fused_kernel(parameters_[0].second)) return update_on_cpu(lr, norm);
  for (const bool decayed : {true, false}) update_with_aten(decayed, lr, norm);
}

void AdamW::update_on_cpu(double lr, const Tensor& norm) {
  const std::vector<size_t> indices = changing();
  std::vector<Tensor> gradients;
  std::vector<int64_t> sizes;
  for (const size_t i : indices) {
    gradients.push_back(parameters_[i].second.grad().contiguous());
    sizes.push_back(gradients.back().numel());
  }
  const auto t = static_cast<double>(steps_);
  kernels::AdamWFactors<double> wide{};
  wide.gradient_scale = config_.grad_clip > 0 ? 1 / std::max(1.0, norm.item<double>() / config_.grad_clip) : 1;
  wide.beta1 = config_.beta1;
  wide.beta2 = config_.beta2;
  wide.step_size = lr / (1 - std::pow(config_.beta1, t));
  wide.root_correction = 1 / std::sqrt(1 - std::pow(config_.beta2, t));
  wide.eps = config_.eps;
  const std::vector<Piece> pieces = pieces_of(sizes);
  for_each_piece(pieces, [&](size_t n) {
    const Piece& piece = pieces[n];
    const size_t i = indices[piece.tensor];
    with_element_type(gradients[piece.tensor], [&]<class T>(T) {
      using A = kernels::Acc<T>;
      const kernels::AdamWFactors<A> factors{.gradient_scale = static_cast<A>(wide.gradient_scale),
                                             .decay = static_cast<A>(decayed_[i] ? 1 - lr * config_.weight_decay : 1),
                                             .beta1 = static_cast<A>(wide.beta1),
                                             .beta2 = static_cast<A>(wide.beta2),
                                             .step_size = static_cast<A>(wide.step_size),
                                             .root_correction = static_cast<A>(wide.root_correction),
                                             .eps = static_cast<A>(wide.eps)};
      kernels::Bf16* copy = copies_[i].defined() ? output<kernels::Bf16>(copies_[i]) + piece.begin : nullptr;
      kernels::kernels<T>().adamw(input<T>(gradients[piece.tensor]) + piece.begin,
                                  output<A>(parameters_[i].second) + piece.begin, output<A>(exp_avg_[i]) + piece.begin,
                                  output<A>(exp_avg_sq_[i]) + piece.begin, copy, piece.count, factors);
    });
  });
}

void AdamW::update_with_aten(bool decayed, double lr, const Tensor& norm) {
  std::vector<Tensor> parameters;
  std::vector<Tensor> gradients;
  std::vector<Tensor> exp_avg;
  std::vector<Tensor> exp_avg_sq;
  std::vector<Tensor> copies;
  std::vector<Tensor> copied;
  for (const size_t i : changing()) {
    if (decayed_[i] != decayed) continue;
    parameters.push_back(parameters_[i].second);
    gradients.push_back(parameters.back().grad().to(parameters.back().scalar_type()));
    exp_avg.push_back(exp_avg_[i]);
    exp_avg_sq.push_back(exp_avg_sq_[i]);
    if (!copies_[i].defined()) continue;
    copies.push_back(copies_[i]);
    copied.push_back(parameters.back());
  }
  if (parameters.empty()) return;
  std::optional<Tensor> scale;
  if (config_.grad_clip > 0) scale = (norm.to(torch::kFloat32) / config_.grad_clip).clamp_min(1.0);
  const std::vector<Tensor> steps(parameters.size(),
                                  torch::full({}, static_cast<double>(steps_),
                                              torch::TensorOptions(torch::kFloat32).device(parameters[0].device())));
  at::_fused_adamw_(parameters, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps, lr, config_.beta1,
                    config_.beta2, decayed ? config_.weight_decay : 0, config_.eps, /*amsgrad=*/false,
                    /*maximize=*/false, scale);
  at::_foreach_copy_(copies, copied);
}

void AdamW::clear_gradients() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad() = Tensor();
}

std::string AdamW::first_bad_gradient() const {
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined() && !torch::isfinite(parameter.grad()).all().item<bool>()) return name;
  }
  return "";
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto [first, second] = moment_names(parameters_[i].first);
    state.emplace_back(first, exp_avg_[i]);
    state.emplace_back(second, exp_avg_sq_[i]);
  }
  return state;
}

}  // namespace switchyard
