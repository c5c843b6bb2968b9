#include "ablate/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ablate/sweep_store.h"
#include "base/errors.h"
#include "tests/ablate/helpers.h"

namespace switchyard {
namespace {

using ablate_test::labels_of;
using ablate_test::SweepFiles;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PlanTest : public ::testing::Test {
 protected:
  std::string error_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
    return test::message_of<ConfigError>([&] { files_.plan(text, overrides); });
  }

  SweepFiles files_;
};

TEST_F(PlanTest, Grid) {
  const Sweep sweep =
      files_.sweep("axes: {moe.top_k: [1, 2], optimizer.lr: [1e-3, 1e-2]}\nsettings: {x: {moe.top_k: 4}}\n");
  const auto settings = expand_settings(sweep);
  EXPECT_THAT(labels_of(settings),
              ElementsAre("top_k=1, lr=1e-3", "top_k=1, lr=1e-2", "top_k=2, lr=1e-3", "top_k=2, lr=1e-2", "x"));
  EXPECT_THAT(settings[1].values, ElementsAre("1", "1e-2"));
  EXPECT_THAT(settings[4].values, ElementsAre("4", ""));
}

TEST_F(PlanTest, PairedAndList) {
  EXPECT_THAT(
      labels_of(expand_settings(files_.sweep("mode: paired\naxes: {moe.num_experts: [2, 4], moe.top_k: [1, 2]}\n"))),
      ElementsAre("num_experts=2, top_k=1", "num_experts=4, top_k=2"));
  EXPECT_THAT(labels_of(expand_settings(files_.sweep("mode: list\nsettings: {b: {moe.top_k: 1}, a: {}}\n"))),
              ElementsAre("b", "a"));
}

TEST_F(PlanTest, EveryRunIsAConfiguration) {
  const Plan plan = files_.plan(
      "dir: out\noverrides: {training.seq_length: 32, moe: {num_experts: 8}}\naxes: {moe.aux_loss_coeff: [0, 0.1]}\n"
      "settings: {expert bias: {moe.router.expert_bias: true}}\nseeds: [4, 5]\n");
  ASSERT_EQ(plan.runs.size(), 6U);
  EXPECT_EQ(plan.runs[0].name, "aux_loss_coeff-0-seed-4");
  EXPECT_EQ(plan.runs[2].name, "expert-bias-seed-4");
  EXPECT_EQ(plan.runs[4].name, "aux_loss_coeff-0.1-seed-5");
  const Config& config = plan.runs[4].config;
  EXPECT_EQ(config.run.seed, 5);
  EXPECT_EQ(config.run.dir, "out/runs/aux_loss_coeff-0.1-seed-5");
  EXPECT_EQ(config.training.seq_length, 32);
  EXPECT_EQ(config.training.num_threads, 1);
  EXPECT_EQ(config.moe->num_experts, 8);
  EXPECT_EQ(config.moe->aux_loss_coeff, 0.1);
  EXPECT_FALSE(config.moe->router.expert_bias);
  EXPECT_TRUE(plan.runs[5].config.moe->router.expert_bias);
  EXPECT_EQ(plan.runs[4].tokens, 100 * 32 * 4);
  EXPECT_GT(plan.runs[4].flops, 0);
  EXPECT_EQ(plan.baseline, 0U);
}

TEST_F(PlanTest, BudgetInTokensRoundsUpToSteps) {
  const Plan plan = files_.plan("axes: {training.seq_length: [16, 32]}\nbudget: {tokens: 1000}\n");
  EXPECT_EQ(plan.runs[0].config.training.max_steps, 16);  // 64 tokens a step
  EXPECT_EQ(plan.runs[1].config.training.max_steps, 8);
  EXPECT_EQ(files_.plan("axes: {moe.top_k: [1]}\nbudget: {max_steps: 7}\n").runs[0].config.training.max_steps, 7);
}

TEST_F(PlanTest, OverridesHoldInEveryRun) {
  const Plan plan = files_.plan("axes: {moe.top_k: [1, 2]}\nseeds: [1, 2]\nbudget: {tokens: 1000}\n",
                                {"training.max_steps=3", "run.dir=elsewhere", "run.seed=9"});
  EXPECT_EQ(plan.folder, "elsewhere");
  ASSERT_EQ(plan.runs.size(), 2U);
  for (const PlannedRun& run : plan.runs) {
    EXPECT_EQ(run.config.training.max_steps, 3);
    EXPECT_EQ(run.seed, 9);
  }
  EXPECT_THAT(error_of("axes: {moe.top_k: [1]}\n", {"moe.top_k=2"}), HasSubstr("the sweep varies 'moe.top_k'"));
  EXPECT_THAT(error_of("axes: {moe.top_k: [1]}\n", {"run.seed=x"}), HasSubstr("needs a whole number"));
  EXPECT_THAT(error_of("axes: {moe.top_k: [1]}\n", {"moe.topk=2"}), HasSubstr("override 'moe.topk=2'"));
}

TEST_F(PlanTest, ThreadsAreTheSweepsAndNotTheJobs) {
  EXPECT_EQ(files_.plan("axes: {moe.top_k: [1]}\n", {}, 3).runs[0].config.training.num_threads, 3);
  EXPECT_EQ(files_.plan("axes: {moe.top_k: [1]}\noverrides: {training.num_threads: 2}\n", {}, 3)
                .runs[0]
                .config.training.num_threads,
            2);
  EXPECT_GE(files_.plan("axes: {moe.top_k: [1]}\n", {}, 0).runs[0].config.training.num_threads, 1);
}

TEST_F(PlanTest, ErrorsOfEverySettingAtTheirPlaces) {
  const std::string message =
      error_of("axes:\n  moe.top_k: [2, 9]\n  optimizer.lrate: [1]\noverrides: {moe.num_expert: 4}\n");
  EXPECT_THAT(message, HasSubstr("s.yaml:4:3: key 'optimizer.lrate' is not known here"));
  EXPECT_THAT(message, HasSubstr("s.yaml:5:13: key 'moe.num_expert' is not known here; did you mean 'num_experts'?"));
  EXPECT_THAT(error_of("axes:\n  moe.top_k: [2, 9]\n"), HasSubstr("s.yaml:3:18: key 'moe.top_k' is 9, more than"));
  EXPECT_THAT(error_of("axes:\n  moe.top_k: {range: {from: 1, to: 2, steps: 3}}\n"), HasSubstr("found '1.5'"));
  EXPECT_THAT(error_of("axes: {moe.top_k: [1]}\nseeds: [1, -4]\n"), HasSubstr("s.yaml:3:8: key 'run.seed' is -4"));
}

TEST_F(PlanTest, Refusals) {
  EXPECT_THAT(
      error_of("axes: {moe.top_k: [1]}\nbaseline: top_k=3\n"),
      HasSubstr("s.yaml:3:11: key 'baseline' names no setting of the sweep: 'top_k=3'; did you mean 'top_k=1'?"));
  EXPECT_THAT(error_of("axes: {moe.top_k: [1]}\nsettings: {top_k=1: {}}\n"), HasSubstr("two settings are called"));
  std::filesystem::remove(files_ / "base.yaml");
  EXPECT_THAT(error_of("axes: {moe.top_k: [1]}\n"), HasSubstr("s.yaml:1:7: key 'base': "));
}

TEST_F(PlanTest, NamesOfSettingsAreBounded) {
  const std::string axis = "axes: {moe.top_k: [1], run.name: [";
  EXPECT_EQ(expand_settings(files_.sweep(axis + std::string(900, 'x') + "]}\n")).size(), 1U);
  EXPECT_THAT(error_of(axis + std::string(1000, 'x') + "]}\n"),
              HasSubstr("s.yaml:2:24: the values of 'axes.run.name' make names of more than 1000 bytes"));
}

TEST(StoredThreads, AreACountThatRunsMayHave) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(stored_threads(folder.path()), 0);
  const auto state = [&](const std::string& threads) {
    test::spill(folder / "state.json", R"({"version": 1, "runs": {}, "threads": )" + threads + "}");
  };
  state("3");
  EXPECT_EQ(stored_threads(folder.path()), 3);
  for (const char* threads : {"-1", "1025", "18446744073709551615", "1.5", "\"3\"", "null"}) {
    state(threads);
    EXPECT_THAT(test::message_of<Error>([&] { stored_threads(folder.path()); }), HasSubstr("state.json")) << threads;
  }
}

}  // namespace
}  // namespace switchyard
