// The parts together: a tiny model learns one batch by heart.
#include "optim/adamw.h"
#include "tests/support/models.h"
#include "tests/support/total_loss.h"

namespace switchyard::test {
namespace {

using torch::Tensor;

// Four random sequences of 9 tokens; their first ones differ, so that all that follows can be known.
Tensor fixed_batch(const Config& config) {
  Tensor tokens = random_tokens(config, 4, 9);
  tokens.select(1, 0).copy_(torch::arange(4));
  return tokens;
}

double loss_after_training(const Config& config, torch::ScalarType compute_type, int steps) {
  const OneThread one_thread;
  Transformer model = make_model(config, kF32);
  model->set_compute_type(compute_type);
  NamedTensors parameters;
  for (const auto& parameter : model->named_parameters()) parameters.emplace_back(parameter.key(), parameter.value());
  AdamW optimizer(parameters, config.optimizer);
  const Tensor tokens = fixed_batch(config);
  for (int step = 0; step < steps; ++step) {
    optimizer.clear_gradients();
    total_loss(model, tokens).value.backward();
    // Down to zero, so that a choice of experts that flips late does not undo what was learnt.
    const double lr = config.optimizer.lr * (1 - static_cast<double>(step) / steps);
    optimizer.step(lr, optimizer.gradient_norm());
  }
  const torch::NoGradGuard no_grad;
  const auto output = model->forward(tokens.narrow(1, 0, 8));
  return model->language_model_loss(output, tokens.narrow(1, 1, 8).flatten()).item<double>();
}

std::vector<std::string> overrides(std::vector<std::string> more = {}) {
  more.insert(more.end(), {"model.hidden_size=16", "moe.intermediate_size=16", "model.init_std=0.1",
                           "optimizer.lr=0.01", "moe.aux_loss_coeff=0.01", "moe.z_loss_coeff=0.001"});
  return more;
}

TEST(Overfit, Float32) { EXPECT_LT(loss_after_training(tiny_moe_config(overrides()), kF32, 300), 0.05); }

TEST(Overfit, Bfloat16) { EXPECT_LT(loss_after_training(tiny_moe_config(overrides()), kBf16, 300), 0.05); }

TEST(Overfit, WithDropsAndSharedExperts) {
  const Config config =
      tiny_moe_config(overrides({"moe.capacity_factor=1.0", "moe.num_shared_experts=1", "model.qk_norm=head"}));
  EXPECT_LT(loss_after_training(config, kF32, 300), 0.05);
}

TEST(Overfit, UntrainedIsNearUniform) {
  // What the losses above are to be compared with: ln 11 = 2.4.
  EXPECT_GT(loss_after_training(tiny_moe_config(overrides()), kF32, 0), 2.0);
}

}  // namespace
}  // namespace switchyard::test
