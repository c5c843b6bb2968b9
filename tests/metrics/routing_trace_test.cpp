#include "metrics/routing_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/files.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

const std::string kHeader = R"({"format":"switchyard-trace-1","num_experts":4,"top_k":2,"layers":[1,3]})"
                            "\n";

RoutingTrace read(const std::string& text) {
  const test::TemporaryFolder folder;
  write_file_durably(folder.path() / "trace.jsonl", text);
  return read_routing_trace(folder.path() / "trace.jsonl");
}

void expect_error(const std::string& text, const std::string& message) {
  try {
    read(text);
    FAIL() << message;
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(RoutingTrace, CountsSetsByLayer) {
  const RoutingTrace trace = read(kHeader + R"({"position":0,"token":7,"layer":1,"experts":[2,0],"weights":[0.7,0.3]})"
                                            "\n"
                                            R"({"position":0,"token":7,"layer":3,"experts":[],"weights":[]})"
                                            "\n"
                                            R"({"position":1,"token":8,"layer":1,"experts":[0,2],"weights":[0.6,0.4]})"
                                            "\n"
                                            R"({"position":1,"token":8,"layer":3,"experts":[3],"weights":[1]})");
  EXPECT_EQ(trace.num_experts, 4);
  EXPECT_EQ(trace.tokens, 2);
  EXPECT_EQ(trace.layers.at(1), (ExpertSets{{{0, 2}, 2}}));
  EXPECT_EQ(trace.layers.at(3), (ExpertSets{{{}, 1}, {{3}, 1}}));
}

TEST(RoutingTrace, NamesWhatIsWrong) {
  expect_error("", "is empty");
  expect_error(kHeader, "holds no token");
  expect_error("\x89PNG", "trace.jsonl:1");
  expect_error("[1]\n", "trace.jsonl:1: found no JSON object");
  expect_error("{\"step\":1}\n", "a routing trace begins with");
  expect_error(R"({"format":"switchyard-trace-1","layers":[1]})", "\"num_experts\" is missing");
  const auto with = [](const std::string& line) { return kHeader + line + "\n"; };
  expect_error(with("{"), "trace.jsonl:2");
  expect_error(with(R"({"experts":[1],"weights":[1]})"), "trace.jsonl:2: the entry \"layer\" is missing");
  expect_error(with(R"({"layer":2,"experts":[1],"weights":[1]})"), "layer 2 is not among the layers");
  expect_error(with(R"({"layer":1,"weights":[1]})"), "\"experts\" is missing");
  expect_error(with(R"({"layer":1,"experts":3,"weights":[1]})"), "\"experts\" is no list");
  expect_error(with(R"({"layer":1,"experts":[4],"weights":[1]})"), "an expert is '4', not a whole number from 0 to 3");
  expect_error(with(R"({"layer":1,"experts":[-1],"weights":[1]})"), "an expert is '-1'");
  expect_error(with(R"({"layer":1,"experts":[1.5],"weights":[1]})"), "an expert is '1.5'");
  expect_error(with(R"({"layer":1,"experts":[1,1],"weights":[1,0]})"), "an expert is named twice");
  expect_error(with(R"({"layer":1,"experts":[1,2],"weights":[1]})"), "not as many weights as experts");
  EXPECT_THROW(read_routing_trace("/nowhere/trace.jsonl"), DataError);
  EXPECT_THROW(read_routing_trace("/"), DataError);
}

}  // namespace
}  // namespace switchyard
