// Training in bf16: the model holds cast matrices, the optimizer what they are cast from.
#include "losses/auxiliary.h"
#include "tests/support/models.h"
#include "tests/support/temporary_folder.h"
#include "train/run_state.h"
#include "train/step.h"

namespace switchyard::test::master_weights_test {
namespace {

using torch::Tensor;

constexpr int64_t kSequences = 4;
constexpr int64_t kLength = 6;

Transformer bf16_model(const Config& config, uint64_t seed = 7) {
  Transformer model = make_model(config, torch::kFloat32, seed);
  model->set_compute_type(torch::kBFloat16);
  return model;
}

Config bf16_config() { return tiny_moe_config({"training.precision=bf16", "moe.aux_loss_scope=micro_batch"}); }

MicroBatchSource batches_of(const Tensor& tokens, int64_t micro_batches) {
  const int64_t size = kSequences / micro_batches;
  return [=](int64_t i) {
    const Tensor part = tokens.narrow(0, i * size, size);
    return BatchTensors{part.narrow(1, 0, kLength), part.narrow(1, 1, kLength).flatten(), size};
  };
}

Tensor tokens_of(const Config& config) { return distinct_tokens(config, kSequences, kLength + 1); }

// What autograd makes of float32 parameters that are cast where they are used.
std::vector<Tensor> plain_gradients(const Config& config, Transformer& model, int64_t micro_batches) {
  const MicroBatchSource source = batches_of(tokens_of(config), micro_batches);
  for (int64_t i = 0; i < micro_batches; ++i) {
    const BatchTensors batch = source(i);
    const ModelOutput output = model->forward(batch.inputs);
    Tensor loss = model->language_model_loss(output, batch.targets);
    for (const NamedLoss& term : auxiliary_losses(output.routers, *config.moe, batch.num_sequences, {})) {
      loss = loss + term.coefficient * term.value;
    }
    (loss / static_cast<double>(micro_batches)).backward();
  }
  std::vector<Tensor> gradients;
  for (const auto& [name, parameter] : named_parameters_of(model)) gradients.push_back(parameter.grad());
  return gradients;
}

TEST(MasterWeights, GradientsAreThoseOfParametersCastWhereTheyAreUsed) {
  const OneThread one_thread;
  const Config config = bf16_config();
  for (const int64_t micro_batches : {1, 2}) {
    Transformer plain = bf16_model(config), model = bf16_model(config);
    const std::vector<Tensor> expected = plain_gradients(config, plain, micro_batches);
    TrainingStep step(model, config);
    step.gradients(1, micro_batches, batches_of(tokens_of(config), micro_batches));
    size_t cast = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const TrainedParameter& parameter = step.buckets().parameters()[i];
      const Tensor& gradient = parameter.master.grad();
      EXPECT_TRUE(torch::equal(gradient.to(torch::kFloat32), expected[i])) << parameter.name << micro_batches;
      if (!parameter.is_cast()) continue;
      ++cast;
      EXPECT_FALSE(parameter.model.grad().defined()) << parameter.name;
      // Several contributions are added in float32; one is left as it was computed.
      EXPECT_EQ(gradient.scalar_type(), micro_batches == 1 ? torch::kBFloat16 : torch::kFloat32) << parameter.name;
    }
    EXPECT_EQ(cast, 8U);  // qkv, o, gate_up and down of two layers
  }
}

TEST(MasterWeights, AreWhatTheModelsWeightsAreRoundedFrom) {
  const Config config = bf16_config();
  Transformer model = bf16_model(config);
  TrainingStep step(model, config);
  for (int64_t i = 1; i <= 3; ++i) {
    step.gradients(i, 1, batches_of(tokens_of(config), 1));
    step.update(1e-3);
  }
  bool finer = false;
  for (const TrainedParameter& parameter : step.buckets().parameters()) {
    if (!parameter.is_cast()) continue;
    EXPECT_EQ(parameter.master.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::equal(parameter.model, parameter.master.to(torch::kBFloat16))) << parameter.name;
    finer = finer || !torch::equal(parameter.model.to(torch::kFloat32), parameter.master);
  }
  EXPECT_TRUE(finer);
}

// A checkpoint holds the master weights, and a model that takes it computes with them.
TEST(MasterWeights, AreSavedAndRestored) {
  const Config config = bf16_config();
  Transformer model = bf16_model(config), other = bf16_model(config, /*seed=*/8);
  TrainingStep step(model, config), other_step(other, config);
  const auto tokenizer = make_byte_tokenizer();
  const TemporaryFolder folder;
  const auto world = World::alone();
  const auto path = save_checkpoint_share(folder.path(), make_checkpoint({}, 0, config, *tokenizer, "f"),
                                          owned_share(model, step, *world), 0, world->saving());
  const Checkpoint checkpoint = load_checkpoint(path);
  load_weights(checkpoint.model, other, other_step, *world, /*partial=*/false, "model");
  for (size_t i = 0; i < step.buckets().parameters().size(); ++i) {
    const TrainedParameter& before = step.buckets().parameters()[i];
    const TrainedParameter& after = other_step.buckets().parameters()[i];
    EXPECT_EQ(checkpoint.model.at(before.name).scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::equal(before.master, after.master)) << before.name;
    EXPECT_TRUE(torch::equal(before.model, after.model)) << before.name;
  }
}

}  // namespace
}  // namespace switchyard::test::master_weights_test
