#include "train/step.h"

#include <gtest/gtest.h>

#ifdef SWITCHYARD_CUDA
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#endif

#include "losses/auxiliary.h"
#include "tests/support/devices.h"
#include "tests/train/one_step.h"

namespace switchyard {
namespace {

using test::kLength;
using test::kSequences;
using test::Outcome;
using test::run_step;
using test::tiny_moe_config;
using torch::Tensor;

void expect_equal(const Outcome& a, const Outcome& b) {
  EXPECT_NEAR(a.losses.total, b.losses.total, 1e-12 * a.losses.total);
  EXPECT_NEAR(a.losses.auxiliary_loss("aux_loss"), b.losses.auxiliary_loss("aux_loss"),
              1e-12 * a.losses.auxiliary_loss("aux_loss"));
  EXPECT_NEAR(a.losses.auxiliary_loss("z_loss"), b.losses.auxiliary_loss("z_loss"),
              1e-12 * a.losses.auxiliary_loss("z_loss"));
  EXPECT_NEAR(a.losses.grad_norm, b.losses.grad_norm, 1e-11 * a.losses.grad_norm);
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    EXPECT_TRUE(torch::allclose(a.gradients[i], b.gradients[i], 1e-10, 1e-13)) << i;
  }
  EXPECT_TRUE(torch::equal(a.routing.tokens_per_expert, b.routing.tokens_per_expert));
  EXPECT_EQ(a.routing.num_tokens, b.routing.num_tokens);
}

TEST(TrainingStep, GlobalBatchAndSequenceScopesDoNotDependOnTheSplit) {
  for (const char* scope : {"global_batch", "sequence"}) {
    const Config config = tiny_moe_config({std::string("moe.aux_loss_scope=") + scope});
    const Outcome whole = run_step(config, 1);
    expect_equal(whole, run_step(config, 2));
    expect_equal(whole, run_step(config, 8));
  }
}

TEST(TrainingStep, MicroBatchScopeDoesDependOnTheSplit) {
  const Config config = tiny_moe_config({"moe.aux_loss_scope=micro_batch"});
  EXPECT_GT(std::abs(run_step(config, 1).losses.auxiliary_loss("aux_loss") -
                     run_step(config, 8).losses.auxiliary_loss("aux_loss")),
            1e-6);
}

TEST(TrainingStep, TheCountingPassSeesTheSameDropoutAndJitterAsTheOneWithGradients) {
  // With one sequence a micro-batch, dropout masks differ from those of a whole batch; but the loss must be the one
  // whose loads are those of the routing that the gradients saw.
  const Config config = tiny_moe_config({"model.dropout=0.3", "moe.router.jitter=0.2"});
  const Outcome outcome = run_step(config, 4);
  const Tensor load = outcome.routing.tokens_per_expert / double(2 * kSequences * kLength);
  const Tensor mean = outcome.routing.probability_sums / double(kSequences * kLength);
  EXPECT_NEAR(outcome.losses.auxiliary_loss("aux_loss"), (4 * (load * mean).sum(1)).mean().item<double>(), 1e-12);
}

TEST(TrainingStep, ADenseModelHasNoAuxiliaryLosses) {
  const Outcome outcome = run_step(test::tiny_config(), 2);
  EXPECT_EQ(outcome.losses.auxiliary_loss("aux_loss"), 0);
  EXPECT_EQ(outcome.losses.auxiliary_loss("z_loss"), 0);
  EXPECT_EQ(outcome.losses.total, outcome.losses.lm);
  EXPECT_TRUE(outcome.routing.layers.empty());
}

TEST(TrainingStep, UpdateMovesParametersAndDiscardDoesNot) {
  const test::OneThread one_thread;
  const Config config = tiny_moe_config();
  Transformer model = test::make_model(config);
  TrainingStep step(model, config);
  const Tensor tokens = test::random_tokens(config, 2, kLength + 1);
  const MicroBatchSource source = [&](int64_t) {
    return BatchTensors{tokens.narrow(1, 0, kLength), tokens.narrow(1, 1, kLength).flatten(), 2};
  };
  const Tensor before = test::parameter_of(*model, "embed_tokens").detach().clone();
  step.gradients(1, 1, source);
  step.discard();
  EXPECT_TRUE(torch::equal(before, test::parameter_of(*model, "embed_tokens")));
  step.gradients(1, 1, source);
  step.update(1e-2);
  EXPECT_FALSE(torch::allclose(before, test::parameter_of(*model, "embed_tokens")));
}

// A first pass counts the load of all micro-batches, where a loss can use it.
TEST(TrainingStep, TheLoadIsCountedBeforehandOnlyWhereBalancingHasAGradient) {
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{"moe.router=top_k"}, 2},
      {{"moe.router=sinkhorn"}, 2},
      {{"moe.router=hash"}, 1},
      {{"moe.router=random"}, 1},
      {{"moe.router=soft_mixture", "moe.top_k=4"}, 1},
      {{"moe.router=soft_mixture", "moe.top_k=4", "moe.aux_loss_choices=first"}, 2},
  };
  for (const auto& [router, passes] : cases) {
    std::vector<std::string> keys = {"moe.aux_loss_scope=global_batch", "moe.aux_loss_coeff=0.01",
                                     "training.micro_batch_size=1", "training.global_batch_size=3"};
    keys.insert(keys.end(), router.begin(), router.end());
    const Config config = tiny_moe_config(keys);
    Transformer model = test::make_model(config);
    TrainingStep step(model, config);
    const Tensor tokens = test::random_tokens(config, 1, kLength + 1);
    int asked = 0;
    step.gradients(1, 3, [&](int64_t) {
      ++asked;
      return BatchTensors{tokens.narrow(1, 0, kLength), tokens.narrow(1, 1, kLength).flatten(), 1};
    });
    EXPECT_EQ(asked, 3 * passes) << router[0];
  }
}

TEST(TrainingStep, SameNumbersOnCuda) {
  SWITCHYARD_NEEDS(torch::kCUDA);
  const Config config = tiny_moe_config();
  const Tensor tokens = test::random_tokens(config, 4, kLength + 1);
  std::vector<double> losses;
  for (const torch::Device device : {torch::Device(torch::kCPU), torch::Device(torch::kCUDA)}) {
    Transformer model = build_model(config, device);
    TrainingStep step(model, config);
    const Tensor placed = tokens.to(device);
    for (int64_t i = 1; i <= 3; ++i) {
      losses.push_back(
          step.gradients(i, 1,
                         [&](int64_t) {
                           return BatchTensors{placed.narrow(1, 0, kLength), placed.narrow(1, 1, kLength).flatten(), 4};
                         })
              .total);
      step.update(1e-3);
    }
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(losses[i], losses[i + 3], 1e-4 * losses[i]);
}

#ifdef SWITCHYARD_CUDA
// While it lives, whoever waits for the device gets an exception.
class NoWaiting {
 public:
  NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR); }
  ~NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED); }
  NoWaiting(const NoWaiting&) = delete;
  NoWaiting& operator=(const NoWaiting&) = delete;
};

// Compute capability, the digit before the point, of the first GPU.
int capability() {
  int major = 0;
  const cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  return error == cudaSuccess ? major : 0;
}

TEST(TrainingStep, ForwardAndBackwardOnCudaDoNotWaitForIt) {
  SWITCHYARD_NEEDS(torch::kCUDA);
  if (capability() != 9 && capability() != 10)
    GTEST_SKIP() << "ATen's grouped products read offsets on this GPU's host";
  for (const char* capacity : {"null", "1.0"}) {
    const Config config = tiny_moe_config({"training.precision=bf16", "model.hidden_size=32", "model.head_dim=16",
                                           "moe.intermediate_size=16", "model.dropout=0.1",
                                           std::string("moe.capacity_factor=") + capacity});
    const torch::Device device(torch::kCUDA);
    Transformer model = build_model(config, device);
    const Tensor tokens = test::random_tokens(config, 4, kLength + 1).to(device);
    for (const bool waiting : {true, false}) {  // the first pass makes what libraries make once
      std::optional<NoWaiting> no_waiting;
      if (!waiting) no_waiting.emplace();
      seed_forward_pass(1, 1, 0);
      const ModelOutput output = model->forward(tokens.narrow(1, 0, kLength));
      Tensor loss = model->language_model_loss(output, tokens.narrow(1, 1, kLength).flatten());
      for (const NamedLoss& other : auxiliary_losses(output.routers, *config.moe, 4, {})) loss = loss + other.value;
      loss.backward();
      RoutingTotals totals;
      accumulate_routing(totals, output.routers);
    }
  }
}
#endif

}  // namespace
}  // namespace switchyard
