#include "cli/any_config.h"

#include <filesystem>

#include "checkpoint/find.h"
#include "config/load.h"

namespace switchyard {

Config config_of(const std::string& path, const std::vector<std::string>& overrides) {
  if (!std::filesystem::is_directory(path)) return load_config(path, overrides);
  return load_config(resolve_checkpoint(path) / "config.yaml", overrides);
}

}  // namespace switchyard
