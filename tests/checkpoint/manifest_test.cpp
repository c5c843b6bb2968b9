#include "checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/json.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Manifest example() {
  Manifest manifest;
  manifest.step = 500;
  for (const char* name : {kModelFile, kOptimizerFile, kTrainerFile, "config.yaml"}) {
    manifest.files[name] = {1234, checksum(std::string_view(name))};
  }
  return manifest;
}

std::string error_of(const std::string& text) {
  return message_of<CheckpointError>([&] { parse_manifest(text, "place"); });
}

// The text of a manifest after `change`, with a self-checksum that fits.
template <typename Change>
std::string changed(Change&& change) {
  Json json = parse_json(manifest_text(example()), "test");
  json.erase("xxh3_128");
  change(json);
  json["xxh3_128"] = checksum(json.dump());
  return json.dump();
}

TEST(Manifest, RoundTrips) {
  const Manifest found = parse_manifest(manifest_text(example()), "place");
  EXPECT_EQ(found.step, 500);
  ASSERT_EQ(found.files.size(), 4u);
  EXPECT_EQ(found.files.at("config.yaml").bytes, 1234u);
  EXPECT_EQ(found.files.at("config.yaml").checksum, checksum("config.yaml"));
}

TEST(Manifest, EveryFlippedBitIsFound) {
  const std::string text = manifest_text(example());
  ASSERT_EQ(error_of(text), "");
  for (size_t bit = 0; bit < 8 * (text.size() - 1); ++bit) {  // all but the newline at the end
    std::string damaged = text;
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_THAT(error_of(damaged), StartsWith("place")) << bit << ": " << damaged;
  }
}

TEST(Manifest, EveryCutIsFound) {
  const std::string text = manifest_text(example());
  for (size_t size = 0; size + 1 < text.size(); ++size) EXPECT_NE(error_of(text.substr(0, size)), "") << size;
}

TEST(Manifest, WrongContentIsRefusedEvenWithAFittingChecksum) {
  EXPECT_THAT(error_of(changed([](Json& json) { json["format_version"] = 2; })),
              HasSubstr("format_version is 2; this program reads version 1"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["format_version"] = "1"; })), HasSubstr("format_version"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["step"] = -1; })), HasSubstr("'step'"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["step"] = 1.0; })), HasSubstr("'step'"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["step"] = uint64_t{1} << 63; })), HasSubstr("too large"));
  EXPECT_THAT(error_of(changed([](Json& json) { json.erase("step"); })), HasSubstr("'step' is missing"));
  EXPECT_THAT(error_of(changed([](Json& json) { json.erase("files"); })), HasSubstr("'files' is missing"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["files"] = Json::array(); })), HasSubstr("'files'"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["files"].erase(kOptimizerFile); })),
              HasSubstr("does not list optimizer.safetensors"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["files"]["config.yaml"] = 3; })), HasSubstr("'config.yaml'"));
  EXPECT_THAT(error_of(changed([](Json& json) { json["files"]["config.yaml"]["bytes"] = -3; })),
              AllOf(HasSubstr("'config.yaml'"), HasSubstr("'bytes'")));
  EXPECT_THAT(error_of(changed([](Json& json) { json["files"]["config.yaml"]["xxh3_128"] = 3; })),
              AllOf(HasSubstr("'config.yaml'"), HasSubstr("'xxh3_128'")));
  EXPECT_THAT(error_of("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("'xxh3_128' is missing"));
  EXPECT_THAT(error_of(R"({"step": 1, "step": 2})"), HasSubstr("twice"));
}

TEST(Manifest, NoPartsAreNotAllParts) {
  for (const char* parts : {"model-00001-of-00000.safetensors", "model-00001-of--0002.safetensors"}) {
    const std::string text = changed([&](Json& json) {
      json["files"].erase(kModelFile);
      json["files"][parts] = json["files"][kTrainerFile];
    });
    EXPECT_THAT(error_of(text), HasSubstr("does not list model.safetensors")) << parts;
  }
}

TEST(Manifest, NamesThatLeaveTheFolderAreRefused) {
  for (const char* name : {"../config.yaml", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\nb", "manifest.json"}) {
    const std::string text = changed([&](Json& json) { json["files"][name] = json["files"]["config.yaml"]; });
    EXPECT_THAT(error_of(text), HasSubstr("not the name of a file inside")) << name;
  }
  EXPECT_TRUE(is_plain_file_name("model-00001-of-00002.safetensors"));
  EXPECT_TRUE(is_plain_file_name("..hidden"));
}

}  // namespace
}  // namespace switchyard
