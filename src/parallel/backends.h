// The engines below the groups (included by group.cpp and world.cpp only): c10d's store and process groups.
// backends.cpp alone knows the headers of Gloo and NCCL.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ops/torch.h"
#include "parallel/launch.h"

namespace switchyard {

// What does a group's collectives.
struct Engine {
  c10::intrusive_ptr<c10d::Backend> backend;
};

// The address of this machine on the way to `address`: loopback stays loopback. Throws DistributedError.
std::string own_address_towards(const std::string& address, int port);

// Rank 0 serves the store, bound to launch.address and nothing else, unless the launcher does; the others connect.
// Throws DistributedError: the port is taken, the address is not this machine's, nobody answers within `timeout`.
c10::intrusive_ptr<c10d::Store> open_store(const Launch& launch, std::chrono::milliseconds timeout);

// A process group over `size` ranks that find each other under `name` in the store. Throws DistributedError.
std::shared_ptr<Engine> make_gloo(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name, int rank,
                                  int size, const std::string& own_address, std::chrono::milliseconds timeout);
// The same over NCCL; a build without CUDA throws DistributedError.
std::shared_ptr<Engine> make_nccl(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name, int rank,
                                  int size, std::chrono::milliseconds timeout);

}  // namespace switchyard
