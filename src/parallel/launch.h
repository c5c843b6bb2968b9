// Which rank of how many this process is, as its launcher says: torchrun, Open MPI's mpirun, Slurm's srun, an MPI that
// speaks PMI, or none.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace switchyard {

struct Launch {
  std::string launcher = "none";  // torchrun, mpirun, srun, pmi, none
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;        // among the ranks of this machine
  int local_world_size = 1;  // ranks of this machine
  std::string address = "127.0.0.1";
  int port = 29500;          // where rank 0, or the launcher's agent, serves the store
  bool agent_store = false;  // the launcher serves the store: every rank is a client (torchrun)
  std::string run_id;        // differs between launches that share a store
  std::string job;           // the same when the group is started anew, another one for other jobs; "" where unknown
  int restarts = 0;          // how often the launcher, or Slurm, has started this group anew
};

// The value of a variable, nothing where it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

// torchrun's RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT win over Open MPI's
// OMPI_COMM_WORLD_*, these over Slurm's SLURM_* (inside a job step only) and PMI_RANK / PMI_SIZE. MASTER_ADDR and
// MASTER_PORT are optional on one machine; with several, srun's node list names the first, others need MASTER_ADDR.
// Throws DistributedError naming the variables that are missing, no numbers, out of range or contradict each other.
Launch read_launch(const Environment& environment);

// The first host of a Slurm node list: "gpu[07-09,12],login" -> "gpu07". Throws DistributedError.
std::string first_slurm_host(const std::string& node_list);

}  // namespace switchyard
