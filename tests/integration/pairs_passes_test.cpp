// Random small models (pairs_test.cpp): gradients against central differences, and whether anything looks ahead.
#include <functional>
#include <optional>
#include <set>

#include "config/router_keys.h"
#include "losses/depth.h"
#include "tests/integration/pairs.h"
#include "tests/integration/small_training.h"
#include "tests/support/total_loss.h"
#include "tests/support/whole_models.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

// What a router chose, which a small change of a weight must leave as it is where differences are taken.
std::vector<Tensor> choices_of(const ModelOutput& output) {
  std::vector<Tensor> choices;
  for (const RouterOutput& router : output.routers) {
    for (const Tensor& choice : {router.expert_ids, router.dispatched(), router.group_ids}) {
      if (choice.defined()) choices.push_back(choice.clone());
    }
  }
  for (const DepthOutput& depth : output.depths) choices.push_back(depth.passed);
  return choices;
}

bool equal(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Tensor& x, const Tensor& y) { return torch::equal(x, y); });
}

struct Differences {
  std::function<Tensor()> loss;
  std::function<bool()> moved;  // whether a choice has been another one since it was asked last
  int64_t compared = 0;
  int64_t left_out = 0;

  // The entry with the largest gradient of each tensor, and two others.
  void check(const Leaves& leaves) {
    std::vector<Tensor> inputs;
    for (const auto& [name, leaf] : leaves) inputs.push_back(leaf);
    const auto gradients = torch::autograd::grad({loss()}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);
    const torch::NoGradGuard no_grad;
    for (size_t i = 0; i < leaves.size(); ++i) {
      const Tensor& leaf = leaves[i].second;
      const Tensor gradient = (gradients[i].defined() ? gradients[i] : torch::zeros_like(leaf)).flatten();
      const RandomPermutation order(i + 1, static_cast<uint64_t>(leaf.numel()));
      std::set<int64_t> entries = {gradient.abs().argmax().item<int64_t>()};
      for (uint64_t n = 0; n < std::min<uint64_t>(2, order.size()); ++n) entries.insert(static_cast<int64_t>(order(n)));
      for (const int64_t entry : entries) check(leaves[i].first, leaf, gradient[entry].item<double>(), entry);
    }
  }

  void check(const std::string& name, const Tensor& leaf, double analytic, int64_t entry) {
    auto result = entry_matches(loss, leaf, analytic, entry, {});
    bool other_choice = moved();
    if (!result || other_choice) {
      // A step ten times as small meets fewer bends, such as relu's, and has ten times the rounding.
      result = entry_matches(loss, leaf, analytic, entry, {.step = 1e-6, .relative = 1e-5, .absolute = 5e-8});
      other_choice = moved();
    }
    ++(other_choice ? left_out : compared);
    EXPECT_TRUE(result || other_choice) << name << ' ' << leaf.sizes() << ", " << result.message();
  }
};

// The loss that is trained on. The budget's is a count with the gradient of a smooth estimate; a predictor of Mixture
// of Depths has a loss of its own, which the rest of the model must not see.
TEST(Pairs, Gradients) {
  for_each_model([](int64_t number) {
    Config config = config_of(number, kFloat64);
    if (config.moe) config.moe->router.budget_coeff = 0;
    Transformer model = make_model(config);
    const int64_t length = config.training.seq_length;
    const Tensor tokens = sequences_of(config, 1, 0, 2);
    std::optional<std::vector<Tensor>> start;
    bool moved = false;
    bool of_predictors = false;
    const auto loss = [&] {
      seed_forward_pass(1, 1, 1);
      const ModelOutput output = model->forward(tokens.narrow(1, 0, length));
      const std::vector<Tensor> choices = choices_of(output);
      if (!start) start = choices;
      moved = moved || !equal(choices, *start);
      if (of_predictors) return depth_loss(output.depths, 1).value;
      return loss_of(model, output, tokens.narrow(1, 1, length));
    };
    Differences differences{.loss = loss, .moved = [&] { return std::exchange(moved, false); }};
    Leaves predictors = leaves_of(*model);
    Leaves others = predictors;
    const auto of_predictor = [](const auto& leaf) { return leaf.first.find("predictor") != std::string::npos; };
    std::erase_if(predictors, std::not_fn(of_predictor));
    std::erase_if(others, of_predictor);
    differences.check(others);
    of_predictors = true;
    if (!predictors.empty()) differences.check(predictors);
    EXPECT_GT(differences.compared, differences.left_out);
  });
}

// The largest difference, over the largest value of b.
double distance(const Tensor& a, const Tensor& b) {
  const double off = ((a - b).abs().max() / b.abs().max()).item<double>();
  return std::isfinite(off) ? off : std::numeric_limits<double>::infinity();
}

// Nothing that comes later, and no other sequence, moves what a model says of a prefix, whole or token by token; but in
// what is said to look ahead, something does.
TEST(Pairs, Prefix) {
  int64_t compared = 0, looking_ahead = 0, moved = 0;
  for_each_model([&](int64_t number) {
    const Config config = config_of(number, kFloat64);
    SmallTraining training(config);
    training.steps(1, 3);
    Transformer& model = training.model();
    model->eval();
    const torch::NoGradGuard no_grad;
    const int64_t length = config.training.seq_length;
    const Tensor tokens = sequences_of(config, 1000, 0, 2).narrow(1, 0, length);
    const Tensor whole = logits_of(model, tokens).narrow(0, 0, 1);
    const bool ahead = !why_evaluation_looks_ahead(config).empty();
    double largest = 0;
    for (const int64_t prefix : std::set<int64_t>{1, (length + 1) / 2, length}) {
      const Tensor found = logits_of(model, tokens.narrow(0, 0, 1).narrow(1, 0, prefix));
      largest = std::max(largest, distance(found, whole.narrow(1, 0, prefix)));
    }
    looking_ahead += ahead ? 1 : 0;
    moved += ahead && largest > 1e-6 ? 1 : 0;
    if (ahead) return;
    EXPECT_LE(largest, 1e-10);
    KvCache cache = model->make_cache(1, length);
    for (int64_t place = 0; place < length; ++place) {
      const Tensor found = logits_of(model, tokens.narrow(0, 0, 1).narrow(1, place, 1), &cache);
      EXPECT_LE(distance(found, whole.narrow(1, place, 1)), 1e-10) << "token " << place;
      ++compared;
    }
  });
  expect_share(compared, 1);
  EXPECT_TRUE(looking_ahead < 3 || moved > 0) << looking_ahead;
}

}  // namespace
}  // namespace switchyard::test
