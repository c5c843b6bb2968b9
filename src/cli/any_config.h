// The configuration that a command line names, for commands that only calculate.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace switchyard {

// Of a config file, a checkpoint folder or a run folder (its newest checkpoint). Throws ConfigError, CheckpointError.
Config config_of(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace switchyard
