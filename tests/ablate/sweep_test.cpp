#include "ablate/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "tests/ablate/helpers.h"

namespace switchyard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> values_of(const std::string& axis) {
  const Sweep sweep = parse_sweep("base: b.yaml\naxes:\n  optimizer.lr: " + axis + "\n", "s.yaml", "/conf");
  std::vector<std::string> values;
  for (const YamlNode& value : sweep.axes.at(0).values) values.push_back(flow_text(value));
  return values;
}

// The message about a sweep with this text in place of its line 2 on.
std::string error_of(const std::string& text) {
  return test::message_of<ConfigError>([&] { parse_sweep("base: b.yaml\n" + text, "s.yaml", "/conf"); });
}

TEST(Sweep, ReadsEveryKey) {
  const Sweep sweep = parse_sweep(
      "title: A question\ndir: runs/q\nbase: b.yaml\nmode: paired\n"
      "overrides: {training.seq_length: 32, model: {num_layers: 3}}\n"
      "axes:\n  moe.top_k: {label: k, values: [1, 2]}\n  moe.num_experts: [4, 8]\n"
      "settings:\n  no experts: {moe: null}\n"
      "seeds: [3, 5]\nbudget: {tokens: 5000}\nbaseline: no experts\n",
      "conf/s.yaml", "/conf");
  EXPECT_EQ(sweep.title, "A question");
  EXPECT_EQ(sweep.dir, "runs/q");
  EXPECT_EQ(sweep.mode, SweepMode::kPaired);
  ASSERT_EQ(sweep.overrides.size(), 2U);
  EXPECT_EQ(sweep.overrides[1].key, "model");
  EXPECT_EQ(sweep.axes[0].label, "k");
  EXPECT_EQ(sweep.axes[1].label, "num_experts");
  EXPECT_EQ(sweep.settings[0].label, "no experts");
  EXPECT_THAT(sweep.seeds, ElementsAre(3, 5));
  EXPECT_EQ(sweep.tokens, 5000);
  EXPECT_EQ(sweep.baseline, "no experts");
}

TEST(Sweep, Defaults) {
  const Sweep sweep = parse_sweep("base: b.yaml\naxes: {moe.top_k: [1]}\nseeds: 3\n", "a/loss.yaml", "/a");
  EXPECT_EQ(sweep.title, "loss");
  EXPECT_EQ(sweep.dir, "runs/loss");
  EXPECT_THAT(sweep.seeds, ElementsAre(1, 2, 3));
  EXPECT_EQ(sweep.mode, SweepMode::kGrid);
}

TEST(Sweep, LabelsThatWouldBeAlikeAreWholeKeys) {
  const Sweep sweep = parse_sweep(
      "base: b.yaml\naxes: {moe.intermediate_size: [1], model.intermediate_size: [2], moe.top_k: [1]}\n", "s.yaml", "");
  EXPECT_EQ(sweep.axes[0].label, "moe.intermediate_size");
  EXPECT_EQ(sweep.axes[1].label, "model.intermediate_size");
  EXPECT_EQ(sweep.axes[2].label, "top_k");
}

TEST(AxisValues, Lists) {
  EXPECT_THAT(values_of("[0, 1e-4, null, [1, 0], {type: hash}]"),
              ElementsAre("0", "1e-4", "null", "[1, 0]", "{type: hash}"));
  EXPECT_THAT(values_of("{values: [a, \"1\"]}"), ElementsAre("a", "\"1\""));
}

TEST(AxisValues, Ranges) {
  EXPECT_THAT(values_of("{range: {from: 1, to: 9, steps: 5}}"), ElementsAre("1", "3", "5", "7", "9"));
  EXPECT_THAT(values_of("{range: {from: 0, to: 1, steps: 3}}"), ElementsAre("0", "0.5", "1"));
  EXPECT_THAT(values_of("{range: {from: 0.3, to: 0.1, steps: 3}}"), ElementsAre("0.3", "0.2", "0.1"));
  EXPECT_THAT(values_of("{log_range: {from: 16, to: 128, steps: 4}}"), ElementsAre("16", "32", "64", "128"));
  EXPECT_THAT(values_of("{log_range: {from: 1e-4, to: 1e-2, steps: 5}}"),
              ElementsAre("0.0001", "0.000316228", "0.001", "0.00316228", "0.01"));
}

TEST(SweepErrors, PlaceAndNearestKey) {
  EXPECT_EQ(error_of("axes: {moe.top_k: [1]}\nsedes: [1]\n"),
            "s.yaml:3:1: key 'sedes' is not known in a sweep; did you mean 'seeds'?");
  EXPECT_THAT(error_of("axes: {moe.top_k: [1]}\nmodel: {}\n"), HasSubstr("go under 'overrides'"));
  EXPECT_THAT(error_of("axes:\n  moe.top_k: {vales: [1]}\n"),
              StartsWith("s.yaml:3:15: key 'axes.moe.top_k.vales' is "));
  EXPECT_THAT(error_of("axes:\n  moe.top_k: {vales: [1]}\n"), HasSubstr("did you mean 'values'?"));
}

TEST(SweepErrors, AllAtOnce) {
  const std::string message = error_of("axes: {a.b: []}\nseeds: [1, 1.5]\nmode: gird\nbudget: {epochs: 3}\n");
  EXPECT_THAT(message, HasSubstr("s.yaml:2:13: key 'axes.a.b' needs a list of 1 to 1000 values"));
  EXPECT_THAT(message, HasSubstr("s.yaml:3:12: key 'seeds' needs a whole number, found '1.5'"));
  EXPECT_THAT(message, HasSubstr("s.yaml:4:7: key 'mode' needs grid, paired or list, found 'gird'"));
  EXPECT_THAT(message, HasSubstr("s.yaml:5:9: key 'budget' needs {tokens: N} or {max_steps: N}, found {epochs: 3}"));
}

TEST(SweepErrors, Axes) {
  EXPECT_THAT(error_of("axes: {a.b: {range: {from: 1, to: 2}}}\n"), HasSubstr("'axes.a.b.range.steps' is missing"));
  EXPECT_THAT(error_of("axes: {a.b: {range: {from: 1, to: 2, steps: 1}}}\n"), HasSubstr("must be at least 2"));
  EXPECT_THAT(error_of("axes: {a.b: {range: {from: x, to: 2, steps: 2}}}\n"), HasSubstr("needs a finite number"));
  EXPECT_THAT(error_of("axes: {a.b: {range: {from: 1, top: 2, steps: 2}}}\n"), HasSubstr("did you mean 'to'?"));
  EXPECT_THAT(error_of("axes: {a.b: {log_range: {from: 0, to: 2, steps: 2}}}\n"), HasSubstr("ends above 0"));
  EXPECT_THAT(error_of("axes: {a.b: {range: {from: 1, to: 1, steps: 2}}}\n"), HasSubstr("same number"));
  EXPECT_THAT(error_of("axes: {a.b: {label: x}}\n"), HasSubstr("needs exactly one of values, range or log_range"));
  EXPECT_THAT(error_of("axes: {a.b: 3}\n"), HasSubstr("needs a list"));
  EXPECT_THAT(error_of("axes: {a.b: [1, 2, 1]}\n"), HasSubstr("has the value 1 twice"));
  EXPECT_THAT(error_of("axes: {a..b: [1]}\n"), HasSubstr("needs the form of a dotted key"));
  EXPECT_THAT(error_of("axes: {run.seed: [1, 2]}\n"), HasSubstr("write 'seeds' at the top"));
  EXPECT_THAT(error_of("axes: {a.b: [1]}\noverrides: {run: {dir: x}}\n"), HasSubstr("write 'dir' at the top"));
  EXPECT_THAT(error_of("mode: paired\naxes: {a.b: [1, 2], c.d: [1]}\n"), HasSubstr("go together one by one"));
  EXPECT_THAT(error_of("mode: list\naxes: {a.b: [1, 2]}\n"), HasSubstr("leave out 'axes'"));
}

TEST(SweepErrors, WholeFile) {
  EXPECT_THAT(error_of("seeds: [1]\n"), HasSubstr("key 'axes' is missing"));
  EXPECT_THAT(test::message_of<ConfigError>([] { parse_sweep("axes: {a.b: [1]}\n", "s.yaml", ""); }),
              HasSubstr("s.yaml:1:1: key 'base' is missing"));
  EXPECT_THAT(test::message_of<ConfigError>([] { parse_sweep("", "s.yaml", ""); }), HasSubstr("found null"));
  EXPECT_THAT(test::message_of<ConfigError>([] { parse_sweep("base: [", "s.yaml", ""); }), HasSubstr("s.yaml:"));
  EXPECT_THAT(test::message_of<ConfigError>([] { load_sweep("/nowhere/s.yaml"); }), HasSubstr("/nowhere/s.yaml"));
}

}  // namespace
}  // namespace switchyard
