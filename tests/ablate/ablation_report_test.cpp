#include "ablate/ablation_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ablate/sample_sweep.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json data_of(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  return parse_json(page.substr(begin, page.find("</script", begin) - begin), "page");
}

TEST(AblationReport, CurvesAreMeansOverSeeds) {
  const test::TemporaryFolder scratch(test::memory_folder());
  const ablate_test::SampleSweep sweep(scratch.path(), {{"a", 0.1}, {"b", 0.5}}, 2, 100);
  const std::string page = render_ablation(sweep.plan, sweep.results());
  const Json data = data_of(page);
  ASSERT_EQ(data["settings"].size(), 2U);
  const Json& curve = data["settings"][0]["curves"]["max_violation"];
  ASSERT_EQ(curve["step"].size(), 10U);
  double sum = 0;
  for (size_t seed = 0; seed < 2; ++seed) {
    const RunMetrics run = read_run_metrics(sweep.plan.runs[seed * 2].config.run.dir);
    for (const auto& [index, layer] : run.layers) sum += layer.table.columns.at("max_violation").back();
  }
  EXPECT_NEAR(curve["mean"].back().get<double>(), sum / 4, 1e-4 * sum);
  EXPECT_LE(curve["low"].back(), curve["mean"].back());
  EXPECT_LE(curve["mean"].back(), curve["high"].back());
  EXPECT_FALSE(data["settings"][0]["curves"].contains("dropped_fraction"));  // nothing is dropped
  EXPECT_TRUE(data["settings"][0]["curves"].contains("domain:prose"));
  EXPECT_EQ(data["runs"].size(), 4U);
  EXPECT_THAT(page, HasSubstr("<code>switchyard ablate</code>"));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
}

TEST(AblationReport, StaysSmall) {
  const test::TemporaryFolder scratch(test::memory_folder());
  std::vector<std::pair<std::string, double>> settings;
  for (int i = 0; i < 60; ++i) settings.emplace_back("setting " + std::to_string(i), 0.01 * i);
  const ablate_test::SampleSweep sweep(scratch.path(), settings, 1, 2500);
  EXPECT_LT(render_ablation(sweep.plan, sweep.results()).size(), 5'000'000U);
}

TEST(AblationReport, WithoutResults) {
  Plan plan;
  plan.title = "<b>";
  plan.settings = {{"only", {}, {}}};
  plan.seeds = {1};
  plan.runs.push_back({.name = "only-seed-1", .setting = 0, .seed = 1, .config = {}});
  const std::string page = render_ablation(plan, conclude(plan, std::vector<RunResult>(1)));
  EXPECT_THAT(page, HasSubstr("&lt;b&gt;"));
  EXPECT_EQ(data_of(page)["conclusion"], "No run has finished yet.");
}

}  // namespace
}  // namespace switchyard
