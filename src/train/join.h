// How a process becomes one of the ranks of a run.
#pragma once

#include <memory>

#include "config/config.h"
#include "parallel/world.h"

namespace switchyard {

// Reads the launch environment, meets the other ranks and makes sure that all run the same program with the same
// configuration; log messages then name the rank. Without a launcher: this process alone. Throws ConfigError where the
// ranks cannot share a step's micro-batches or experts evenly, DistributedError as World::join() does.
std::shared_ptr<World> join_world(const Config& config);

}  // namespace switchyard
