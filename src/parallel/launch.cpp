#include "parallel/launch.h"

#include <charconv>
#include <cstdlib>

#include "base/errors.h"
#include "base/text.h"

namespace switchyard {
namespace {

constexpr int kMostRanks = 1 << 20;

// Variables of one launcher, by their meaning.
struct Names {
  const char* launcher;
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;  // null: not told
};

constexpr Names kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Names kMpirun = {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                           "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Names kSrun = {"srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr};
constexpr Names kPmi = {"pmi", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};

int parse(const std::string& text, const std::string& name, int lowest, int highest) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < lowest || value > highest) {
    throw DistributedError("the environment variable " + name + " is " + in_quotes(text) +
                           ": it must be a whole number from " + std::to_string(lowest) + " to " +
                           std::to_string(highest));
  }
  return value;
}

std::optional<int> number(const Environment& environment, const char* name, int lowest = 0, int highest = kMostRanks) {
  if (name == nullptr) return std::nullopt;
  const auto text = environment(name);
  return text ? std::optional(parse(*text, name, lowest, highest)) : std::nullopt;
}

[[noreturn]] void contradiction(const std::string& a, int value_a, const std::string& b, int value_b,
                                const std::string& right) {
  throw DistributedError("the environment contradicts itself: " + a + " is " + std::to_string(value_a) + " and " + b +
                         " is " + std::to_string(value_b) + "; " + right);
}

int required(const Environment& environment, const char* name, const char* because) {
  const auto value = number(environment, name);
  if (!value) {
    throw DistributedError(std::string("the environment variable ") + because + " is set, but " + name +
                           " is not: a launcher sets both; unset the first to run one process");
  }
  return *value;
}

void read_ranks(const Environment& environment, const Names& names, Launch& launch) {
  launch.launcher = names.launcher;
  launch.rank = required(environment, names.rank, names.world_size);
  launch.world_size = required(environment, names.world_size, names.rank);
  if (launch.rank >= launch.world_size) {
    contradiction(names.rank, launch.rank, names.world_size, launch.world_size, "ranks count from 0");
  }
  const auto local = number(environment, names.local_rank);
  const auto local_size = number(environment, names.local_world_size);
  launch.local_rank = local.value_or(launch.rank);
  launch.local_world_size = local_size.value_or(launch.world_size);
  if (launch.local_rank >= launch.local_world_size) {
    contradiction(names.local_rank, launch.local_rank,
                  names.local_world_size == nullptr ? names.world_size : names.local_world_size,
                  launch.local_world_size, "local ranks count from 0");
  }
  if (launch.local_world_size > launch.world_size) {
    contradiction(names.local_world_size, launch.local_world_size, names.world_size, launch.world_size,
                  "a machine cannot hold more ranks than there are");
  }
}

bool inside_slurm_step(const Environment& environment) {
  // A batch script has SLURM_PROCID too, but only srun starts one process a task.
  return environment("SLURM_PROCID") && (environment("SLURM_STEP_ID") || environment("SLURM_STEPID"));
}

// mpirun started this process: whatever else is set must say the same.
void check_same_ranks(const Environment& environment, const Launch& launch, const Names& used, const Names& other) {
  const auto rank = number(environment, other.rank);
  const auto size = number(environment, other.world_size);
  const std::string right =
      std::string("start the program with one launcher, or unset the variables of ") + other.launcher;
  if (size && *size != launch.world_size) {
    contradiction(used.world_size, launch.world_size, other.world_size, *size, right);
  }
  if (rank && *rank != launch.rank) contradiction(used.rank, launch.rank, other.rank, *rank, right);
}

// A port that ranks of one job agree on and other jobs of the machine hardly share; below the ephemeral ones.
int port_of_job(const std::string& job) {
  uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return 10000 + static_cast<int>(hash % 20000U);
}

void read_slurm_nodes(const Environment& environment, Launch& launch) {
  const auto nodes = number(environment, "SLURM_NNODES", 1);
  if (nodes && *nodes > 1) {
    launch.local_world_size = std::max(launch.local_rank + 1, launch.world_size / *nodes);
    auto list = environment("SLURM_STEP_NODELIST");
    if (!list) list = environment("SLURM_JOB_NODELIST");
    if (list) launch.address = first_slurm_host(*list);
  }
  launch.port = port_of_job(environment("SLURM_JOB_ID").value_or("") + "." + environment("SLURM_STEP_ID").value_or(""));
}

void read_address(const Environment& environment, Launch& launch, bool address_known) {
  const auto address = environment("MASTER_ADDR");
  if (address) launch.address = *address;
  if (const auto port = number(environment, "MASTER_PORT", 1, 65535)) launch.port = *port;
  if (!address && !address_known && launch.local_world_size < launch.world_size) {
    throw DistributedError("the ranks are on several machines (" + std::to_string(launch.local_world_size) + " of " +
                           std::to_string(launch.world_size) +
                           " here): set MASTER_ADDR to the address of rank 0's machine");
  }
}

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
}

std::string first_slurm_host(const std::string& node_list) {
  const size_t bracket = node_list.find_first_of("[,");
  const std::string prefix = node_list.substr(0, bracket);
  std::string first = prefix;
  if (bracket != std::string::npos && node_list[bracket] == '[') {
    const size_t end = node_list.find_first_of("-,]", bracket);
    if (end == std::string::npos) throw DistributedError("the node list " + in_quotes(node_list) + " has no ']'");
    first += node_list.substr(bracket + 1, end - bracket - 1);
  }
  if (first.empty()) throw DistributedError("the node list " + in_quotes(node_list) + " names no host");
  return first;
}

Launch read_launch(const Environment& environment) {
  Launch launch;
  bool address_known = false;
  if (environment(kTorchrun.rank) || environment(kTorchrun.world_size)) {
    read_ranks(environment, kTorchrun, launch);
    if (environment(kMpirun.rank)) check_same_ranks(environment, launch, kTorchrun, kMpirun);
    launch.agent_store = environment("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
    launch.run_id = environment("TORCHELASTIC_RUN_ID").value_or("");
    launch.restarts = number(environment, "TORCHELASTIC_RESTART_COUNT").value_or(0);
  } else if (environment(kMpirun.rank) || environment(kMpirun.world_size)) {
    read_ranks(environment, kMpirun, launch);
    launch.port = port_of_job(environment("PMIX_NAMESPACE").value_or("mpirun"));
  } else if (inside_slurm_step(environment)) {
    read_ranks(environment, kSrun, launch);
    read_slurm_nodes(environment, launch);
    address_known = true;
  } else if (environment(kPmi.rank) || environment(kPmi.world_size)) {
    read_ranks(environment, kPmi, launch);
  }
  launch.job = environment("SLURM_JOB_ID").value_or(launch.run_id);
  if (const auto requeued = number(environment, "SLURM_RESTART_COUNT")) launch.restarts += *requeued;
  if (launch.launcher != "none") read_address(environment, launch, address_known);
  return launch;
}

}  // namespace switchyard
