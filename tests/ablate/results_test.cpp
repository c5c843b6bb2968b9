#include "ablate/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ablate/results_files.h"
#include "ablate/run_output.h"
#include "tests/support/sample_run.h"

namespace switchyard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

struct Outcome {
  double loss;
  double max_violation = 1;
};

// A plan of these settings, and a finished run for each of their outcomes; a NaN loss stands for a failed run.
struct Case {
  Plan plan;
  std::vector<RunResult> runs;

  Case& setting(const std::string& label, const std::vector<Outcome>& outcomes) {
    plan.settings.push_back({label, {label}, {}});
    for (size_t i = 0; i < outcomes.size(); ++i) {
      const int64_t seed = static_cast<int64_t>(i) + 1;
      plan.runs.push_back({.name = label + "-seed-" + std::to_string(seed),
                           .setting = plan.settings.size() - 1,
                           .seed = seed,
                           .config = {}});
      RunResult result{.state = RunState::kFinished, .error = {}, .seconds = 1, .values = {}, .domains = {}};
      if (std::isnan(outcomes[i].loss)) {
        result.state = RunState::kFailed;
        result.error = "the loss is \"nan\",\nat step 3";
      } else {
        result.values = {{"val_loss", outcomes[i].loss}, {"max_violation", outcomes[i].max_violation}};
        result.domains = {{"code", outcomes[i].loss - 1}, {"prose", outcomes[i].loss + 1}};
      }
      runs.push_back(result);
    }
    return *this;
  }
  Results results() {
    plan.axes = {"moe.top_k"};
    return conclude(plan, runs);
  }
};

TEST(Summarise, SettledValuesOfEveryLayer) {
  const test::TemporaryFolder scratch(test::memory_folder());
  const auto folder = test::write_sample_run(scratch.path(), {.name = "run", .steps = 100, .layers = 2, .experts = 4});
  const RunMetrics metrics = read_run_metrics(folder);
  const RunResult result = summarise(metrics);
  EXPECT_EQ(result.values.at("val_loss"), metrics.eval.columns.at("val_loss").back());
  double sum = 0;
  for (const int64_t layer : {0, 1}) sum += metrics.layers.at(layer).table.columns.at("load_cv").back();
  EXPECT_DOUBLE_EQ(result.values.at("load_cv"), sum / 2);  // 10 lines: the last tenth is the last one
  EXPECT_DOUBLE_EQ(result.values.at("max_over_mean"), result.values.at("max_violation") + 1);
  EXPECT_GE(result.values.at("worst_max_violation"), result.values.at("max_violation"));
  EXPECT_EQ(result.domains.size(), 3U);
  const auto dense = test::write_sample_run(scratch.path(), {.name = "dense", .steps = 100, .layers = 0});
  EXPECT_TRUE(std::isnan(summarise(read_run_metrics(dense)).values.at("load_cv")));
}

TEST(Conclude, PairedBySeed) {
  Case sweep;
  sweep.setting("off", {{3.00}, {3.10}, {3.20}})
      .setting("on", {{2.89}, {3.00}, {3.11}})
      .setting("half", {{2.90}, {3.01}, {3.10}});
  const Results results = sweep.results();
  EXPECT_EQ(results.best, 1U);
  EXPECT_EQ(results.next, 2U);
  ASSERT_TRUE(results.best_against_next);
  EXPECT_TRUE(results.best_against_next->paired);
  // Differences -0.01, -0.01, 0.01: t = -1/2.
  EXPECT_NEAR(results.best_against_next->test.t, -0.5, 1e-9);
  EXPECT_NEAR(results.best_against_next->test.p, 1 - 0.5 / std::sqrt(2.25), 1e-9);
  ASSERT_EQ(results.against_baseline.size(), 2U);
  EXPECT_NEAR(results.against_baseline[1].corrected, 2 * results.against_baseline[1].test.p, 1e-12);  // the smaller p
  EXPECT_THAT(results.conclusion, StartsWith("Lowest validation loss: “on” with 3.0000 ± 0.1100 nats per token"));
  EXPECT_THAT(results.conclusion,
              HasSubstr("The next, “half”, is 0.0033 behind, which does not exceed the seeds' noise "
                        "(paired t-test, 3 seeds: t = -0.50, df = 2, p = 0.67; p = 1 after Bonferroni's correction for "
                        "all 3 pairs of settings)"));
  EXPECT_THAT(results.conclusion,
              HasSubstr("The baseline, “off”, is 0.1000 behind, which is more than the seeds' noise"));
}

// Differences -0.10, -0.12, -0.17 from the baseline: t = -sqrt(39), p = 0.025 alone and 0.074 as the least of three.
// The sentence about the best and the table say the same p.
TEST(Conclude, TheNextBestMayBeTheBaseline) {
  Case sweep;
  sweep.setting("base", {{3.00}, {3.10}, {3.20}})
      .setting("best", {{2.90}, {2.98}, {3.03}})
      .setting("bad", {{4.0}, {3.0}, {5.0}})
      .setting("worse", {{4.1}, {3.1}, {5.1}});
  const Results results = sweep.results();
  const double p = 1 - std::sqrt(39 / (2 + 39.0));
  EXPECT_NEAR(results.best_against_next->test.p, p, 1e-9);
  EXPECT_NEAR(results.best_against_next->corrected, 3 * p, 1e-9);
  EXPECT_EQ(results.best_against_next->corrected, results.against_baseline[0].corrected);
  EXPECT_THAT(results.conclusion, HasSubstr("“base”, is 0.1300 behind, which does not exceed the seeds' noise"));
  EXPECT_THAT(results.conclusion, HasSubstr("after Holm's correction for 3 comparisons with the baseline)"));
}

TEST(Conclude, TwoSeedsAreTooFewToSay) {
  Case sweep;
  sweep.setting("a", {{3.0}, {3.1}}).setting("b", {{2.0}, {2.1001}});
  const Results results = sweep.results();
  EXPECT_LT(results.against_baseline[0].corrected, 0.001);
  EXPECT_FALSE(is_significant(results.against_baseline[0]));
  EXPECT_THAT(results.conclusion, HasSubstr("behind, and two seeds are too few to say whether that is noise (paired"));
}

TEST(Conclude, WelchWhereSeedsDiffer) {
  Case sweep;
  sweep.setting("a", {{3.0}, {3.1}, {NAN}}).setting("b", {{2.0}, {2.1}, {2.2}});
  const Results results = sweep.results();
  EXPECT_EQ(results.best, 1U);
  EXPECT_FALSE(results.best_against_next->paired);
  EXPECT_EQ(results.settings[0].failed, 1U);
  EXPECT_THAT(results.settings[0].seeds, ElementsAre(1, 2));
  EXPECT_THAT(results.conclusion, HasSubstr("Welch's t-test"));
  EXPECT_THAT(results.conclusion, Not(HasSubstr("Pairs are formed")));
}

TEST(Conclude, TooFewRuns) {
  EXPECT_EQ(Case().setting("a", {{NAN}}).results().conclusion, "No run has finished.");
  Case one;
  one.setting("a", {{3.0}}).setting("b", {{2.0}}).setting("c", {{NAN}});
  const Results results = one.results();
  EXPECT_THAT(results.conclusion, HasSubstr("is 1.0000 behind; whether that exceeds the seeds' noise takes three"));
  EXPECT_THAT(results.against_baseline, IsEmpty());
  EXPECT_THAT(Case().setting("a", {{3.0}}).results().conclusion, HasSubstr("(1 seed)"));
}

TEST(Conclude, ParetoFront) {
  Case sweep;
  sweep.setting("cheap", {{2.0, 3.0}})
      .setting("even", {{2.2, 0.1}})
      .setting("worse", {{2.3, 0.5}})
      .setting("failed", {{NAN}});
  const Results results = sweep.results();
  EXPECT_THAT(results.front.at("max_violation"), ElementsAre(1, 0));
  EXPECT_THAT(results.front.at("load_cv"), IsEmpty());
}

TEST(ResultFiles, Csv) {
  Case sweep;
  sweep.setting("a, b", {{2.5, 0.25}, {NAN}});
  const Results results = sweep.results();
  const std::string csv = results_csv(sweep.plan, results);
  EXPECT_THAT(csv, StartsWith("setting,seed,status,moe.top_k,val_loss,perplexity,"));
  EXPECT_THAT(csv, HasSubstr(",val_loss.code,val_loss.prose,steps,tokens,seconds,run,error\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\n\"a, b\",1,finished,\"a, b\",2.5,,"));
  EXPECT_THAT(csv, HasSubstr("\"the loss is \"\"nan\"\",\nat step 3\"\r\n"));
}

TEST(ResultFiles, CsvCellsAreNoFormulas) {
  Case sweep;
  sweep.setting("=1+1", {{2.5, 0.25}}).setting("-0.5", {{-2.5, 0.25}}).setting("@a, b", {{2.5, 0.25}});
  sweep.setting("-inf", {{2.5, 0.25}});
  const std::string csv = results_csv(sweep.plan, sweep.results());
  EXPECT_THAT(csv, HasSubstr("\r\n'=1+1,1,finished,'=1+1,2.5,"));
  EXPECT_THAT(csv, HasSubstr("\r\n-0.5,1,finished,-0.5,-2.5,"));
  EXPECT_THAT(csv, HasSubstr("\r\n\"'@a, b\",1,finished,\"'@a, b\",2.5,"));
  EXPECT_THAT(csv, HasSubstr("\r\n'-inf,1,finished,'-inf,2.5,"));
}

TEST(ResultFiles, JsonAndMarkdown) {
  Case sweep;
  sweep.setting("a|b", {{2.5, 0.25}, {2.6, 0.35}}).setting("c", {{NAN}, {NAN}});
  const Results results = sweep.results();
  const OrderedJson json = OrderedJson::parse(results_json(sweep.plan, results).dump());
  EXPECT_EQ(json["best"], "a|b");
  EXPECT_EQ(json["settings"][0]["measures"]["val_loss"]["mean"], 2.55);
  EXPECT_EQ(json["settings"][0]["finished_seeds"], OrderedJson::array({1, 2}));
  EXPECT_EQ(json["settings"][1]["failed"], 2);
  EXPECT_EQ(json["pareto_front"]["max_violation"], OrderedJson::array({"a|b"}));
  EXPECT_EQ(json["runs"][2]["status"], "failed");
  const std::string markdown = results_markdown(sweep.plan, results);
  EXPECT_THAT(markdown,
              HasSubstr("| a\\|b | 2 | 2.5500 ± 0.0707 | 0.300 ± 0.071 | 1.5500 ± 0.0707 | 3.5500 ± 0.0707 |"));
  EXPECT_THAT(markdown, HasSubstr("| c | 0 | – | – | – | – |"));
  EXPECT_THAT(markdown, HasSubstr("`c-seed-1` failed: the loss is"));
}

TEST(ErrorInOutput, FromTheLastErrorOn) {
  EXPECT_EQ(error_in_output("12:00:00 info starts\nstep 1/9  loss 3\n12:00:01 error the loss is nan\n", 1),
            "the loss is nan (exit code 1)");
  EXPECT_EQ(error_in_output("switchyard: a.yaml:1:2: no\nb.yaml:3:4: no\n", 2),
            "switchyard: a.yaml:1:2: no\nb.yaml:3:4: no (exit code 2)");
  EXPECT_EQ(error_in_output("12:00:00 info one\n12:00:00 info two\nstep 5/9\n", 137),
            "12:00:00 info two (killed by signal 9; is there enough memory?)");
  EXPECT_EQ(error_in_output("", 139), " (ended by signal 11)");
}

}  // namespace
}  // namespace switchyard
