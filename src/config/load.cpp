#include "config/load.h"

#include "base/errors.h"
#include "base/files.h"
#include "config/compose.h"
#include "config/presets.h"
#include "config/resolve.h"
#include "config/rules.h"
#include "config/text_check.h"

namespace switchyard {

Config parse_config(const std::string& text, const std::string& name, const std::filesystem::path& folder,
                    const std::vector<std::string>& overrides) {
  Problems problems;
  const std::filesystem::path start = std::filesystem::absolute(folder.empty() ? "." : folder).lexically_normal();
  return config_of_tree(compose_tree(text, name, start, overrides, problems), problems);
}

Config config_of_tree(const YamlNode& tree, Problems& problems) {
  Config config;
  Fields fields = fields_of(config);
  const Readings readings = read_fields(tree, fields, problems);
  check_rules(config, readings, tree.place, problems);
  problems.throw_if_any();
  resolve(config);
  return config;
}

Config load_config(const std::filesystem::path& path_or_preset, const std::vector<std::string>& overrides) {
  const std::filesystem::path path = preset_or_path(path_or_preset.string());
  if (std::filesystem::is_directory(path)) {
    throw ConfigError(path.string() + " is a folder, where a YAML file or preset:NAME is expected" +
                      (std::filesystem::exists(path / "config.yaml") ? "; it holds a config.yaml" : ""));
  }
  std::string text;
  try {
    text = read_file(path, kMostConfigBytes);
  } catch (const Error& error) {
    throw ConfigError(error.what());
  }
  return parse_config(text, path.string(), path.parent_path(), overrides);
}

}  // namespace switchyard
