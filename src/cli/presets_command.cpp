#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "config/presets.h"

namespace switchyard {
namespace {

struct PresetsOptions {
  bool json = false;
  bool names = false;
};

void print_json(const std::vector<Preset>& presets) {
  OrderedJson json = OrderedJson::array();
  for (const Preset& preset : presets) {
    json.push_back({{"name", preset.name}, {"purpose", preset.purpose}, {"path", preset.path.string()}});
  }
  std::printf("%s\n", json.dump(2).c_str());
}

void print_table(const std::vector<Preset>& presets) {
  size_t width = 0;
  for (const Preset& preset : presets) width = std::max(width, preset.name.size());
  for (const Preset& preset : presets) {
    std::printf("%-*s  %s\n%*s  %s\n", static_cast<int>(width), preset.name.c_str(), preset.purpose.c_str(),
                static_cast<int>(width), "", preset.path.c_str());
  }
  std::printf("\nto start from one: 'extends: preset:NAME' in a config, or preset:NAME in its place\n");
}

int run_presets(const PresetsOptions& options) {
  const std::vector<Preset> presets = list_presets();
  if (options.json) {
    print_json(presets);
  } else if (options.names) {
    for (const Preset& preset : presets) std::printf("%s\n", preset.name.c_str());
  } else {
    print_table(presets);
  }
  return kExitDone;
}

}  // namespace

Command add_presets(CLI::App& app) {
  auto options = std::make_shared<PresetsOptions>();
  app.add_flag("--names", options->names, "Print the names alone");
  app.add_flag("--json", options->json, "Print JSON");
  return [options] { return run_presets(*options); };
}

}  // namespace switchyard
