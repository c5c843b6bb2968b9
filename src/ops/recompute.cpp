#include "ops/recompute.h"

#include <torch/csrc/autograd/engine.h>

#include <utility>
#include <vector>

namespace switchyard {

using torch::Tensor;

namespace {

// The states of ATen's default generators that operations on `device` draw from.
class GeneratorStates {
 public:
  explicit GeneratorStates(torch::Device device) {
    add(torch::kCPU);
    if (!device.is_cpu()) add(device);
  }
  void restore() const {
    for (auto [generator, state] : states_) {
      const std::scoped_lock lock(generator.mutex());
      generator.set_state(state);
    }
  }

 private:
  void add(torch::Device device) {
    at::Generator generator = at::globalContext().defaultGenerator(device);
    const std::scoped_lock lock(generator.mutex());
    states_.emplace_back(generator, generator.get_state());
  }

  std::vector<std::pair<at::Generator, Tensor>> states_;
};

// One part of the forward pass and the values that its operations saved, which are here only between running again and
// being used.
class Part {
 public:
  Part(const Tensor& x, ForwardPart again)
      : x_(x.detach()), requires_grad_(x.requires_grad()), again_(std::move(again)), generators_(x.device()) {}

  // Returns the value's index.
  size_t leave_out(const Tensor& value) {
    shapes_.push_back(value.sizes().vec());
    return shapes_.size() - 1;
  }
  void keep(const Tensor& value) {
    const size_t index = values_.size();
    TORCH_CHECK(index < shapes_.size() && value.sizes() == torch::IntArrayRef(shapes_[index]), kDiffers, "value ",
                index, " for the backward pass has the shape ", value.sizes(),
                index < shapes_.size() ? c10::str(" instead of ", torch::IntArrayRef(shapes_[index]))
                                       : std::string(" and is one more"));
    values_.push_back(value.detach());
  }
  Tensor take(size_t index) {
    if (index >= values_.size() || !values_[index].defined()) run_again();
    return std::exchange(values_[index], Tensor());
  }

 private:
  static constexpr const char* kDiffers = "a part of the forward pass that ran again came out differently: ";

  void run_again();

  Tensor x_;
  bool requires_grad_;
  ForwardPart again_;
  GeneratorStates generators_;  // before the first run
  std::vector<std::vector<int64_t>> shapes_;
  std::vector<Tensor> values_;
};

// What autograd asks when an operation of the thread's current part saves a value.
struct LeftOut : torch::autograd::SavedVariableHooks {
  explicit LeftOut(std::shared_ptr<Part> part) : part_(std::move(part)) {}
  void call_pack_hook(const Tensor& value) override { index_ = part_->leave_out(value); }
  Tensor call_unpack_hook() override { return part_->take(index_); }

 private:
  std::shared_ptr<Part> part_;
  size_t index_ = 0;
};

// The same when the part runs again. The graph of that run is never gone through.
struct Kept : torch::autograd::SavedVariableHooks {
  explicit Kept(Part& part) : part_(part) {}
  void call_pack_hook(const Tensor& value) override { part_.keep(value); }
  Tensor call_unpack_hook() override { TORCH_CHECK(false, "recomputed: a value of a second run was asked for"); }

 private:
  Part& part_;
};

// The part that the thread is in, if any, and whether for the first time.
struct Current {
  std::shared_ptr<Part> first;
  Part* again = nullptr;
  bool any() const { return first != nullptr || again != nullptr; }
};
thread_local Current current;

class CurrentScope {
 public:
  explicit CurrentScope(Current now) : before_(std::exchange(current, std::move(now))) {}
  ~CurrentScope() { current = std::move(before_); }
  CurrentScope(const CurrentScope&) = delete;
  CurrentScope& operator=(const CurrentScope&) = delete;

 private:
  Current before_;
};

// LibTorch asks its engine for the hooks of every value that is saved; only Python's engine has any otherwise.
class HookingEngine final : public torch::autograd::Engine {
 public:
  static void install() {
    [[maybe_unused]] static const bool once = (torch::autograd::set_default_engine_stub(&instance), true);
  }
  std::unique_ptr<torch::autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    if (current.first) return std::make_unique<LeftOut>(current.first);
    if (current.again != nullptr) return std::make_unique<Kept>(*current.again);
    return nullptr;
  }

 private:
  static Engine& instance() {
    static HookingEngine engine;
    return engine;
  }
};

void Part::run_again() {
  struct PutBack {
    GeneratorStates states;
    ~PutBack() { states.restore(); }
  };
  const PutBack put_back{GeneratorStates(x_.device())};
  generators_.restore();
  const torch::AutoGradMode with_gradients(true);
  const CurrentScope scope({.first = nullptr, .again = this});
  values_.clear();
  again_(x_.detach().set_requires_grad(requires_grad_));
  TORCH_CHECK(values_.size() == shapes_.size(), kDiffers, "it saved ", values_.size(),
              " values for the backward pass instead of ", shapes_.size());
}

}  // namespace

Tensor recomputed(const Tensor& x, const ForwardPart& now, ForwardPart again) {
  if (!torch::GradMode::is_enabled() || current.any()) return now(x);
  HookingEngine::install();
  const CurrentScope scope({.first = std::make_shared<Part>(x, std::move(again)), .again = nullptr});
  return now(x);
}

}  // namespace switchyard
