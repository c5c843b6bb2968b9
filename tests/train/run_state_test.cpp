#include "train/run_state.h"

#include <gtest/gtest.h>

#include "base/errors.h"
#include "tests/support/models.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "";
}

const std::vector<TensorPiece> kTargets =
    whole_pieces(NamedTensors{{"a", torch::zeros({2, 3})}, {"b", torch::zeros({4})}});

TEST(LoadTensors, NamesEverythingThatDoesNotFit) {
  const std::string error = error_of([] {
    load_tensors(TensorMap{{"a", torch::ones({3, 2})}, {"c", torch::ones({1})}}, kTargets, false, "file");
  });
  EXPECT_NE(error.find("'a' is [3, 2] instead of [2, 3]"), std::string::npos) << error;
  EXPECT_NE(error.find("'b' is missing"), std::string::npos) << error;
  EXPECT_NE(error.find("'c' is not part of this model"), std::string::npos) << error;
}

TEST(LoadTensors, PartialTakesWhatFits) {
  const NamedTensors targets = {{"a", torch::zeros({2, 3})}, {"b", torch::zeros({4})}};
  load_tensors(TensorMap{{"a", torch::ones({3, 2})}, {"b", torch::ones({4})}}, whole_pieces(targets), true, "file");
  EXPECT_EQ(targets[0].second.sum().item<double>(), 0);
  EXPECT_EQ(targets[1].second.sum().item<double>(), 4);
}

TEST(RestoreState, NamesAMissingOrWrongEntry) {
  Checkpoint checkpoint;
  checkpoint.step = 3;
  checkpoint.trainer = {{"step", 3}, {"tokens", "many"}};
  EXPECT_NE(error_of([&] { restore_state(checkpoint); }).find("'tokens'"), std::string::npos);
  checkpoint.trainer = {{"step", 4},
                        {"tokens", 1},
                        {"evaluation_due", false},
                        {"spike_window", Json::array()},
                        {"steps_since_used", Json::array()}};
  EXPECT_NE(error_of([&] { restore_state(checkpoint); }).find("says step 4, the manifest 3"), std::string::npos);
}

TEST(LoadTensors, ManyLeftOverTensorsAreCounted) {
  TensorMap many = {{"a", torch::ones({2, 3})}, {"b", torch::ones({4})}};
  for (int i = 0; i < 8000; ++i) many["\x1b[31m" + std::to_string(i)] = torch::ones({1});
  const std::string error = error_of([&] { load_tensors(many, kTargets, false, "file"); });
  EXPECT_LT(error.size(), 2000u);
  EXPECT_NE(error.find("and 7980 more"), std::string::npos);
  EXPECT_EQ(error.find('\x1b'), std::string::npos);
}

// Whoever can write a checkpoint's files can sign them, too.
TEST(RestoreState, HostileEntriesAreNamed) {
  const Json good = {{"step", 3},
                     {"tokens", 10},
                     {"optimizer_steps", 3},
                     {"evaluation_due", false},
                     {"spike_window", {1}},
                     {"steps_since_used", {{1, 2}}},
                     {"data_fingerprint", "x"}};
  Checkpoint checkpoint;
  checkpoint.step = 3;
  const auto restore = [&] {
    restore_state(checkpoint);
    optimizer_steps(checkpoint);
    data_fingerprint(checkpoint);
  };
  checkpoint.trainer = good;
  EXPECT_EQ(error_of(restore), "");
  const std::vector<Json> values = {nullptr,   true,       -1,
                                    1.5,       "text",     std::string(100'000, 'x'),
                                    1e300,     {-1},       {{"k"}},
                                    {{1, -2}}, {{{1}}},    Json::object(),
                                    {nullptr}, UINT64_MAX, {{UINT64_MAX}}};
  for (const auto& [key, valid] : good.items()) {
    checkpoint.trainer = good;
    checkpoint.trainer.erase(key);
    EXPECT_EQ(error_of(restore), "trainer.json: the entry '" + key + "' is missing");
    for (const Json& value : values) {
      checkpoint.trainer = good;
      checkpoint.trainer[key] = value;
      const std::string error = error_of(restore);
      EXPECT_LT(error.size(), 200u);
      EXPECT_EQ(error.find("json.exception"), std::string::npos) << error;
      if (value.is_null()) {
        EXPECT_EQ(error, "trainer.json: the entry '" + key + "' can't be 'null'");
      }
    }
  }
  for (const Json& value : values) {
    checkpoint.trainer = value;
    EXPECT_EQ(error_of(restore), "trainer.json: the entry 'step' is missing");
  }
}

TEST(RunState, RoundTripsExactly) {
  const Config config = test::tiny_moe_config();
  Transformer model = test::make_model(config);
  TrainingStep step(model, config);
  AdamW& optimizer = step.optimizer();
  optimizer.set_steps(17);
  for (const auto& [name, moment] : optimizer.state()) torch::Tensor(moment).uniform_();
  RunState state{
      .step = 5, .tokens = 99, .evaluation_due = true, .spike_window = {0.1, 1.0 / 3}, .steps_since_used = {{0, 3}}};
  const auto tokenizer = make_byte_tokenizer();
  const test::TemporaryFolder folder;
  const auto world = World::alone();
  const auto path =
      save_checkpoint_share(folder.path(), make_checkpoint(state, optimizer.steps(), config, *tokenizer, "f"),
                            owned_share(model, step, *world), 0, world->saving());
  const Checkpoint checkpoint = load_checkpoint(path);
  const RunState back = restore_state(checkpoint);
  EXPECT_EQ(back.step, 5);
  EXPECT_EQ(back.tokens, 99);
  EXPECT_TRUE(back.evaluation_due);
  EXPECT_EQ(back.spike_window, state.spike_window);
  EXPECT_EQ(back.steps_since_used, state.steps_since_used);
  EXPECT_EQ(optimizer_steps(checkpoint), 17);
  Transformer other = test::make_model(config, torch::kFloat64, /*seed=*/8);
  TrainingStep other_step(other, config);
  load_weights(checkpoint.model, other, other_step, *world, false, "model");
  load_tensors(checkpoint.optimizer, optimizer_pieces(other_step, *world), false, "optimizer");
  for (size_t i = 0; i < optimizer.state().size(); ++i) {
    EXPECT_TRUE(torch::equal(optimizer.state()[i].second, other_step.optimizer().state()[i].second));
  }
  for (const auto& [name, tensor] : named_tensors_of(other)) {
    EXPECT_TRUE(torch::equal(tensor, checkpoint.model.at(name))) << name;
  }
}

TEST(ArchitectureChanges, AreShapesNotRates) {
  const Config before = test::tiny_moe_config();
  EXPECT_TRUE(
      architecture_changes(before, test::tiny_moe_config({"model.dropout=0.1", "moe.aux_loss_coeff=0"})).empty());
  const auto changes = architecture_changes(before, test::tiny_moe_config({"moe.num_experts=8"}));
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0], "moe.num_experts is 4 there and 8 here");
}

}  // namespace
}  // namespace switchyard
