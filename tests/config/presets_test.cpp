// Presets by name, as a config to load and after `extends:`.
#include "config/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/config/helpers.h"

namespace switchyard {
namespace {

using config_test::write_text;
using testing::HasSubstr;

class Presets : public testing::Test {
 protected:
  Presets() {
    write_text(folder_, "presets/plain.yaml", "model: {num_layers: 3}\n");
    write_text(folder_, "presets/models/gpt.yaml",
               "# A model (Smith et al. 2020, of smith.yaml): small,\n# and plain. It has layers.\n"
               "#   switchyard train it\nextends: ../plain.yaml\nmodel: {hidden_size: 64}\n");
    write_text(folder_, "presets/bench/wide.yaml", "# Wide.\nmodel: {hidden_size: 256}\n");
    write_text(folder_, "presets/bench/gpt.yaml", "model: {hidden_size: 32}\n");
    write_text(folder_, "presets/README.md", "no preset");
    ::setenv("SWITCHYARD_PRESETS", (folder_ / "presets").c_str(), 1);
  }
  ~Presets() override { ::unsetenv("SWITCHYARD_PRESETS"); }

  static std::string error_of(const std::string& name) {
    try {
      preset_path(name);
      return "";
    } catch (const ConfigError& error) {
      return error.what();
    }
  }

  test::TemporaryFolder folder_;
};

TEST_F(Presets, AreListedWithTheirPurpose) {
  std::vector<std::pair<std::string, std::string>> found;
  for (const Preset& preset : list_presets()) {
    EXPECT_TRUE(std::filesystem::is_regular_file(preset.path));
    found.emplace_back(preset.name, preset.purpose);
  }
  EXPECT_EQ(found, (std::vector<std::pair<std::string, std::string>>{
                       {"bench/gpt", ""},
                       {"bench/wide", "Wide"},
                       {"gpt", "A model (Smith et al. 2020, of smith.yaml): small, and plain"},
                       {"plain", ""}}));
}

TEST_F(Presets, AreFoundByPathAndByStem) {
  EXPECT_EQ(preset_path("preset:bench/wide"), folder_ / "presets/bench/wide.yaml");
  EXPECT_EQ(preset_path("preset:wide"), folder_ / "presets/bench/wide.yaml");
  EXPECT_EQ(preset_path("preset:models/gpt"), folder_ / "presets/models/gpt.yaml");
  EXPECT_EQ(preset_or_path("wide"), "wide");
}

TEST_F(Presets, ErrorsNameTheNearest) {
  EXPECT_THAT(error_of("preset:plian"), HasSubstr("'plian'"));
  EXPECT_THAT(error_of("preset:plian"), HasSubstr("did you mean 'plain'?"));
  EXPECT_THAT(error_of("preset:zzz"), HasSubstr("switchyard presets lists them"));
  EXPECT_THAT(error_of("preset:../presets/plain"), HasSubstr("there is no preset"));
  EXPECT_THAT(error_of("preset:gpt"), HasSubstr("several presets 'gpt'"));
  ::setenv("SWITCHYARD_PRESETS", (folder_ / "nowhere").c_str(), 1);
  EXPECT_THAT(error_of("preset:plain"), HasSubstr("nowhere is no folder"));
}

TEST_F(Presets, AreLoadedAndExtended) {
  EXPECT_EQ(load_config("preset:models/gpt").model.num_layers, 3);
  const auto file = write_text(folder_, "mine.yaml", "extends: preset:models/gpt\nmodel: {num_layers: 5}\n");
  const Config config = load_config(file);
  EXPECT_EQ(config.model.num_layers, 5);
  EXPECT_EQ(config.model.hidden_size, 64);
  const auto wrong = write_text(folder_, "wrong.yaml", "extends: preset:wid\n");
  try {
    load_config(wrong);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("wrong.yaml:1:10: key 'extends': there is no preset 'wid'"));
    EXPECT_THAT(error.what(), HasSubstr("did you mean 'wide'?"));
  }
}

TEST(PresetsOfTheSourceTree, AreFoundFromTheProgram) {
  EXPECT_EQ(preset_path("preset:mixtral-8x7b-tiny").filename(), "mixtral-8x7b-tiny.yaml");
  for (const Preset& preset : list_presets()) {
    EXPECT_FALSE(preset.purpose.empty()) << preset.path;
    EXPECT_EQ(preset_path("preset:" + preset.name), preset.path);
  }
}

}  // namespace
}  // namespace switchyard
