#include "cli/any_config.h"

#include <filesystem>

#include "checkpoint/find.h"
#include "config/load.h"
#include "data/cache.h"
#include "data/dataset.h"

namespace switchyard {

Config config_of(const std::string& path, const std::vector<std::string>& overrides) {
  if (!std::filesystem::is_directory(path)) return load_config(path, overrides);
  return load_config(resolve_checkpoint(path) / "config.yaml", overrides);
}

bool assume_vocabulary(Config& config) {
  const std::optional<int64_t> known = known_vocab_size(config);
  config.model.vocab_size = known.value_or(sentencepiece_vocab_size(config));
  return !known;
}

}  // namespace switchyard
