// The ranks of a run: how they find each other, the groups they form, and what becomes of all when one fails.
// With one process every group has one rank and nothing is opened.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "ops/torch.h"
#include "parallel/group.h"
#include "parallel/launch.h"

namespace switchyard {

class World {
 public:
  // Waits until all ranks are there, at most parallel.timeout. Rank 0 serves the store on the interface of
  // launch.address only (unless the launcher serves it). `device` is this rank's. Rank r holds share r % P of the
  // experts, where P is parallel.expert_parallel_size. Throws DistributedError: the address cannot be bound or reached,
  // ranks that did not come, a rank that runs another program; ConfigError: P does not divide the number of ranks.
  static std::shared_ptr<World> join(const Launch& launch, const ParallelConfig& config, torch::Device device);
  // One process, on the CPU.
  static std::shared_ptr<World> alone();
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const Launch& launch() const { return launch_; }
  int rank() const { return launch_.rank; }
  int size() const { return launch_.world_size; }
  bool first() const { return rank() == 0; }
  torch::Device device() const { return device_; }  // where this rank computes

  Group& all() { return *all_; }            // every rank
  Group& experts() { return *experts_; }    // the P ranks that hold one copy of the experts
  Group& replicas() { return *replicas_; }  // the ranks that hold the same experts as this one
  Group& control() { return *control_; }    // every rank, small values on the CPU, whatever the device
  Group& saving() { return *saving_; }      // the same again, for a thread that saves while the others train

  // The experts of this rank, of `num_experts` in a layer.
  int64_t expert_share() const { return rank() % experts_->size(); }

  // Tells the other ranks why this one stops; they name it when their collectives fail. Never throws.
  void announce_failure(const std::string& reason) noexcept;
  // Says goodbye; where this rank serves the store, gives the others a few seconds to do the same. The destructor does
  // it after the groups have been closed.
  void leave() noexcept;

 private:
  World(Launch launch, torch::Device device);
  void connect(std::chrono::milliseconds timeout);
  void make_groups(const ParallelConfig& config, std::chrono::milliseconds timeout);
  std::unique_ptr<Group> make_group(const std::string& name, const std::vector<int>& ranks, bool on_cuda,
                                    std::chrono::milliseconds timeout);
  // Asks all ranks what happened and throws DistributedError with the answer.
  [[noreturn]] void fail(const std::string& collective, const std::string& reason);

  Launch launch_;
  torch::Device device_;
  std::string own_address_;
  struct Stores;
  std::shared_ptr<Stores> stores_;  // null for one process
  std::shared_ptr<const FailureHandler> on_failure_;
  std::unique_ptr<Group> all_;
  std::unique_ptr<Group> experts_;
  std::unique_ptr<Group> replicas_;
  std::unique_ptr<Group> control_;
  std::unique_ptr<Group> saving_;
};

}  // namespace switchyard
