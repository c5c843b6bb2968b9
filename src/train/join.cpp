#include "train/join.h"

#include "base/errors.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/text.h"
#include "config/load.h"
#include "parallel/agree.h"
#include "train/setup.h"

namespace switchyard {
namespace {

void check_batches(const Config& config, int ranks) {
  const int64_t micro_batches = *config.training.global_batch_size / config.training.micro_batch_size;
  if (micro_batches % ranks == 0) return;
  throw ConfigError(
      formatted("a step has %ld micro-batches (training.global_batch_size %ld / micro_batch_size %ld), "
                "which %d ranks cannot share evenly",
                micro_batches, *config.training.global_batch_size, config.training.micro_batch_size, ranks));
}

}  // namespace

std::shared_ptr<World> join_world(const Config& config) {
  const Launch launch = read_launch(process_environment());
  if (launch.world_size > 1) log_as_rank(launch.rank);
  if (launch.world_size == 1 && config.parallel.expert_parallel_size > 1) {
    throw ConfigError("parallel.expert_parallel_size is " + std::to_string(config.parallel.expert_parallel_size) +
                      ", but this run has one process: it must be 1, or start several with torchrun, mpirun or srun");
  }
  const auto world =
      World::join(launch, config.parallel, choose_device(config.training.device, launch.local_rank, gpus_of_machine()));
  if (world->size() > 1) {
    require_same(world->control(), "program", checksum_file("/proc/self/exe"));
    require_same(world->control(), "configuration", dump_config(config));
    check_batches(config, world->size());
  }
  return world;
}

}  // namespace switchyard
