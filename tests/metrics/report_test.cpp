#include "metrics/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/json.h"
#include "tests/support/sample_run.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::message_of;
using test::SampleRun;
using test::spill;
using test::TemporaryFolder;
using test::write_sample_run;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// The data between its script tags, as a browser would cut it out: up to the first "</script".
Json data_of(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  return parse_json(page.substr(begin, page.find("</script", begin) - begin), "page");
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

class Report : public ::testing::Test {
 protected:
  std::filesystem::path folder(const std::string& name, const std::string& metrics) {
    std::filesystem::create_directories(scratch_ / name);
    spill(scratch_ / name / "metrics.jsonl", metrics);
    return scratch_ / name;
  }
  std::string message(const std::string& metrics) {
    return message_of<Error>([&] { render_report({folder("run", metrics)}); });
  }

  TemporaryFolder scratch_{test::memory_folder()};
};

TEST_F(Report, ShowsAlarmsAndWhatEvaluationsSaidOfTheRouting) {
  const auto run =
      folder("run",
             "{\"event\":\"start\",\"step\":0}\n"
             "{\"event\":\"routing\",\"step\":2,\"layer\":1,\"load\":[1,0],\"z\":2.5,\"logit_norm\":3}\n"
             "{\"event\":\"alarm\",\"step\":2,\"layer\":1,\"message\":\"layer 1: <it>\",\"advice\":\"do\"}\n"
             "{\"event\":\"routing_eval\",\"step\":2,\"layer\":1,\"drift\":null,\"domain_share\":0.25}\n"
             "{\"event\":\"routing_eval\",\"step\":4,\"layer\":1,\"drift\":0.5,\"domain_share\":0.75}\n");
  const Json data = data_of(render_report({run}))["runs"][0];
  ASSERT_EQ(data["alarms"].size(), 1U);
  EXPECT_EQ(data["alarms"][0]["message"], "layer 1: <it>");
  EXPECT_EQ(data["summary"]["alarms"], 1);
  const Json& layer = data["layers"][0];
  EXPECT_EQ(layer["columns"]["z"]["mean"], Json::array({2.5}));
  EXPECT_EQ(layer["probe"]["columns"]["drift"]["mean"], Json::array({nullptr, 0.5}));
  EXPECT_EQ(layer["probe"]["columns"]["domain_share"]["mean"], Json::array({0.25, 0.75}));
  EXPECT_THAT(message("{\"event\":\"alarm\",\"step\":2}\n"), HasSubstr("the line has no 'layer'"));
}

TEST_F(Report, ForgetsAlarmsOfStepsThatAreDoneAgain) {
  std::string lines;
  for (const char* step : {"1", "4", "4", "9", "3"}) {
    lines += std::string("{\"event\":\"alarm\",\"layer\":0,\"step\":") + step + "}\n";
  }
  const Json alarms = data_of(render_report({folder("run", lines)}))["runs"][0]["alarms"];
  ASSERT_EQ(alarms.size(), 2U);
  EXPECT_EQ(alarms[0]["step"], 1);
  EXPECT_EQ(alarms[1]["step"], 3);
}

TEST_F(Report, ContainsEveryRunAndLayer) {
  const auto moe = write_sample_run(scratch_.path(), {.name = "moe", .steps = 100, .layers = 3, .experts = 4});
  const auto dense = write_sample_run(scratch_.path(), {.name = "dense", .steps = 100, .layers = 0});
  const Json runs = data_of(render_report({moe, dense}))["runs"];
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0]["name"], "moe");
  EXPECT_EQ(runs[0]["status"], "finished");
  EXPECT_EQ(runs[0]["resumed_at"], Json::array({50}));
  EXPECT_EQ(runs[0]["facts"]["parameters"], 22600000);
  EXPECT_EQ(runs[0]["config"], "run: {dir: runs/moe, seed: 1}\n");
  ASSERT_EQ(runs[0]["layers"].size(), 3U);
  for (size_t layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(runs[0]["layers"][layer]["layer"], layer);
    ASSERT_EQ(runs[0]["layers"][layer]["load"].size(), 10U);
    EXPECT_EQ(runs[0]["layers"][layer]["load"][9].size(), 4U);
  }
  // The card has the worst of what the layers show.
  double worst = 0;
  for (const Json& layer : runs[0]["layers"]) worst = std::max(worst, layer["settled"]["max_violation"].get<double>());
  EXPECT_EQ(runs[0]["summary"]["max_violation"], worst);
  EXPECT_EQ(runs[0]["domains"].size(), 3U);
  EXPECT_TRUE(runs[1]["layers"].empty());
  EXPECT_FALSE(runs[1]["train"]["columns"].contains("aux_loss"));
}

TEST_F(Report, NumbersAreThoseOfTheFile) {
  const auto run = folder(
      "run",
      "{\"event\":\"start\",\"step\":0}\n"
      "{\"event\":\"train\",\"step\":1,\"tokens\":64,\"loss\":3.5,\"lm_loss\":3,\"aux_loss\":0,\"tokens_per_second\":"
      "10}\n"
      "{\"event\":\"train\",\"step\":2,\"tokens\":128,\"loss\":null,\"lr\":1e-3,\"tokens_per_second\":30}\n"
      "{\"event\":\"eval\",\"step\":2,\"val_loss\":2.25,\"perplexity\":9.5,\"domains\":{\"a\":{\"val_loss\":2}}}\n"
      "{\"event\":\"routing\",\"step\":2,\"layer\":1,\"load\":[0.75,0.25],\"max_violation\":0.5,\"dead_experts\":1}\n"
      "{\"event\":\"something new\"}\n"
      "{\"event\":\"stopped\",\"step\":2}\n");
  const Json found = data_of(render_report({run}))["runs"][0];
  EXPECT_EQ(found["train"]["step"], Json::array({1, 2}));
  EXPECT_EQ(found["train"]["columns"]["loss"]["mean"], Json::array({3.5, nullptr}));
  EXPECT_EQ(found["train"]["columns"]["lr"]["mean"], Json::array({nullptr, 1e-3}));
  EXPECT_EQ(found["layers"][0]["load"], Json::parse("[[0.75,0.25]]"));
  EXPECT_EQ(found["status"], "stopped");
  const Json& summary = found["summary"];
  EXPECT_EQ(summary["val_loss"], 2.25);
  EXPECT_EQ(summary["perplexity"], 9.5);
  EXPECT_EQ(summary["domains"]["a"], 2);
  EXPECT_EQ(summary["train_loss"], 3);
  EXPECT_EQ(summary["max_violation"], 0.5);
  EXPECT_EQ(summary["dead_experts"], 1);
  EXPECT_EQ(summary["entropy"], nullptr);
  EXPECT_EQ(summary["tokens_per_second"], 20);
  EXPECT_EQ(summary["tokens"], 128);
}

TEST_F(Report, ADenseRunHasNoRouterLossesThoughItLogsZeros) {
  const auto run = folder("run", "{\"event\":\"train\",\"step\":1,\"loss\":1,\"aux_loss\":0,\"z_loss\":0}\n");
  EXPECT_FALSE(data_of(render_report({run}))["runs"][0]["train"]["columns"].contains("aux_loss"));
}

TEST_F(Report, LinesWrittenAgainReplaceTheOldOnes) {
  const auto run = folder("run",
                          "{\"event\":\"train\",\"step\":1,\"loss\":1}\n{\"event\":\"train\",\"step\":2,\"loss\":2}\n"
                          "{\"event\":\"routing\",\"step\":2,\"layer\":0,\"load\":[1,0]}\n"
                          "{\"event\":\"train\",\"step\":3,\"loss\":3}\n{\"event\":\"start\",\"step\":1}\n"
                          "{\"event\":\"train\",\"step\":2,\"loss\":20}\n"
                          "{\"event\":\"routing\",\"step\":2,\"layer\":0,\"load\":[0,1]}\n");
  const Json found = data_of(render_report({run}))["runs"][0];
  EXPECT_EQ(found["train"]["step"], Json::array({1, 2}));
  EXPECT_EQ(found["train"]["columns"]["loss"]["mean"], Json::array({1, 20}));
  EXPECT_EQ(found["layers"][0]["load"], Json::parse("[[0,1]]"));
  EXPECT_EQ(found["status"], "running");
}

TEST_F(Report, HostileNamesStayText) {
  const std::string name = "<script>alert(1)<&>";
  const std::string text = "</script><script>alert(2)</script><!--{{script}}";
  const Json start = {{"event", "start"}, {"step", 0}, {"note", text}};
  const Json eval = {{"event", "eval"}, {"step", 1}, {"domains", {{text, {{"val_loss", 1}}}}}};
  const auto run = folder(name, start.dump() + "\n" + eval.dump() + "\n");
  spill(run / "config.yaml", text);
  const std::string page = render_report({run});
  EXPECT_THAT(page, HasSubstr("<title>&lt;script&gt;alert(1)&lt;&amp;&gt; "));
  EXPECT_THAT(page, Not(HasSubstr("alert(1)<")));
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_EQ(occurrences(page, "</script"), 2U);  // the end of the data and that of the program
  const Json found = data_of(page)["runs"][0];
  EXPECT_EQ(found["name"], name);
  EXPECT_EQ(found["facts"]["note"], text);
  EXPECT_EQ(found["config"], text);
  EXPECT_TRUE(found["domains"].contains(text));
}

TEST_F(Report, LoadsNothingFromElsewhere) {
  const std::string page = render_report({write_sample_run(scratch_.path(), {.name = "run", .steps = 20})});
  for (const char* loader :
       {"<link", "<img", "<iframe", " src=", "@import", "url(http", "fetch(", "XMLHttpRequest", "import("}) {
    EXPECT_THAT(page, Not(HasSubstr(loader)));
  }
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
}

TEST_F(Report, StaysSmallForAHundredThousandLines) {
  std::string lines;
  for (int step = 1; step <= 12000; ++step) {
    const std::string at = ",\"step\":" + std::to_string(step);
    const std::string fraction = std::to_string(step * 7919 % 10007);
    lines += "{\"event\":\"train\"" + at + ",\"loss\":3." + fraction + ",\"grad_norm\":0." + fraction + "}\n";
    for (int layer = 0; layer < 8; ++layer) {
      lines += "{\"event\":\"routing\"" + at + ",\"layer\":" + std::to_string(layer) + ",\"load\":[0." + fraction +
               ",0.5],\"entropy\":0." + fraction + "}\n";
    }
  }
  ASSERT_GT(occurrences(lines, "\n"), 100000U);
  const std::string page = render_report({folder("long", lines)});
  EXPECT_LT(page.size(), 1U << 20);
  const Json found = data_of(page)["runs"][0];
  EXPECT_LE(found["train"]["step"].size(), 1000U);
  EXPECT_EQ(found["train"]["step"].back(), 12000);
  EXPECT_EQ(found["layers"].size(), 8U);
}

TEST_F(Report, StaysSmallForManyRunsOfManyExperts) {
  std::vector<std::filesystem::path> folders;
  for (uint64_t i = 0; i < 8; ++i) {
    const SampleRun shape{.name = "run" + std::to_string(i), .steps = 400, .layers = 6, .experts = 128, .seed = i};
    folders.push_back(write_sample_run(scratch_.path(), shape));
  }
  EXPECT_LT(render_report(folders).size(), 5U << 20);
}

TEST_F(Report, RunsOfOneNameAreToldApart) {
  std::vector<std::filesystem::path> folders;
  for (const char* name : {"a/run", "b/run", "other"})
    folders.push_back(folder(name, "{\"event\":\"start\",\"step\":0}\n"));
  folders.push_back(folders[0]);
  std::vector<std::string> names;
  const Json data = data_of(render_report(folders));
  for (const Json& run : data["runs"]) names.push_back(run["name"]);
  EXPECT_THAT(names, ElementsAre("a/run", "b/run", "other", "a/run (2)"));
}

TEST_F(Report, ARunNamedByADotHasItsFoldersName) {
  const auto run = folder("demo", "{\"event\":\"start\",\"step\":0}\n");
  EXPECT_EQ(data_of(render_report({run / "."}))["runs"][0]["name"], "demo");
  EXPECT_EQ(data_of(render_report({run / ""}))["runs"][0]["name"], "demo");
}

TEST_F(Report, WhatIsMissingIsNamed) {
  EXPECT_THAT(message_of<Error>([] { render_report({}); }), HasSubstr("at least one run folder"));
  EXPECT_THAT(message_of<Error>([&] { render_report({scratch_ / "none"}); }), HasSubstr("none is not a folder"));
  EXPECT_THAT(message_of<Error>([&] { render_report({scratch_.path()}); }), HasSubstr("has no metrics.jsonl"));
  EXPECT_THAT(message(""), HasSubstr("holds no whole line"));
}

TEST_F(Report, WrongLinesAreNamedWithTheirPlace) {
  const std::string good = "{\"event\":\"start\",\"step\":0}\n";
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"{\"step\":1}", "the line has no 'event'"},
      {"{\"event\":\"train\",\"loss\":1}", "the line has no 'step'"},
      {"{\"event\":\"train\",\"step\":-1}", "'step' is '-1' where a whole number"},
      {"{\"event\":\"train\",\"step\":1.5}", "'step' is '1.5' where a whole number"},
      {"{\"event\":\"train\",\"step\":1e300}", "'step' is '1e+300' where a whole number"},
      {"{\"event\":\"train\",\"step\":18446744073709551615}", "where a whole number"},
      {"{\"event\":\"train\",\"step\":1,\"loss\":\"low\"}", "'loss' is '\"low\"' where a number or null"},
      {"{\"event\":\"eval\",\"step\":1,\"domains\":[]}", "'domains' is '[]' where an object"},
      {"{\"event\":\"eval\",\"step\":1,\"domains\":{\"a\":1}}", "'a' is '1' where an object"},
      {"{\"event\":\"routing\",\"step\":1}", "the line has no 'layer'"},
      {"{\"event\":\"routing\",\"step\":1,\"layer\":0,\"load\":3}", "'load' is '3' where a list of numbers"},
      {"{\"event\":\"routing\",\"step\":1,\"layer\":0,\"load\":[true]}", "'load' is 'true' where a number"},
  };
  for (const auto& [line, expected] : wrong) {
    const std::string found = message(good + line + "\n" + good);
    EXPECT_THAT(found, HasSubstr("metrics.jsonl:2: ")) << line;
    EXPECT_THAT(found, HasSubstr(expected)) << line;
  }
}

TEST_F(Report, LinesThatAreNoObjectsAreLeftOut) {
  const std::string start = "{\"event\":\"start\",\"step\":0}\n";
  const std::string train = "{\"event\":\"train\",\"step\":1,\"loss\":2.5}\n";
  const auto run = folder("demo", start + "{\"event\":\"tr\n" + train);
  EXPECT_EQ(data_of(render_report({run}))["runs"][0]["train"]["step"], Json::array({1}));
}

TEST_F(Report, ALayerKeepsItsNumberOfExperts) {
  EXPECT_THAT(message("{\"event\":\"routing\",\"step\":1,\"layer\":4,\"load\":[1,0]}\n"
                      "{\"event\":\"routing\",\"step\":2,\"layer\":4,\"load\":[1]}\n"),
              HasSubstr("metrics.jsonl:2: 'load' of layer 4 has 1 experts where earlier lines have 2"));
}

}  // namespace
}  // namespace switchyard
