// Starting a test's own binary as several ranks.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "parallel/world.h"

extern char** environ;

namespace switchyard::test {

struct Layout {
  int ranks = 1;
  int expert_parallel = 1;
  bool distributed_optimizer = false;
  std::string precision = "fp64";
  int64_t micro_batches = 0;  // of a step; 0: what the test chooses

  std::string name() const {
    return "Ranks" + std::to_string(ranks) + "Experts" + std::to_string(expert_parallel) +
           (distributed_optimizer ? "Sharded" : "");
  }
};

// A port that was free a moment ago.
inline int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(socket, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return ntohs(address.sin_port);
}

inline pid_t start_rank(const Layout& layout, int rank, int port, const std::string& argument) {
  const Json settings = {layout.expert_parallel, layout.distributed_optimizer, layout.precision, layout.micro_batches};
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  const std::string ranks = std::to_string(layout.ranks);
  for (const std::string& variable :
       {"SWITCHYARD_TEST_LAYOUT=" + settings.dump(), "RANK=" + std::to_string(rank), "WORLD_SIZE=" + ranks,
        "LOCAL_RANK=" + std::to_string(rank), "LOCAL_WORLD_SIZE=" + ranks, "MASTER_PORT=" + std::to_string(port),
        std::string("MASTER_ADDR=127.0.0.1")}) {
    variables.push_back(variable);
  }
  std::vector<char*> environment;
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::string program = "/proc/self/exe";
  std::string text = argument;
  char* arguments[] = {program.data(), text.data(), nullptr};
  pid_t child = 0;
  const int error = ::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments, environment.data());
  if (error != 0) throw std::runtime_error("cannot start a rank");
  return child;
}

// Runs the binary as all ranks of the layout, each with `argument`, and waits; a rank that fails fails the test.
inline void run_ranks(const Layout& layout, const std::string& argument) {
  const int port = free_port();
  std::vector<pid_t> children;
  for (int rank = 0; rank < layout.ranks; ++rank) children.push_back(start_rank(layout, rank, port, argument));
  for (int rank = 0; rank < layout.ranks; ++rank) {
    int status = 0;
    ::waitpid(children[static_cast<size_t>(rank)], &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "rank " << rank << " of " << layout.name();
  }
}

// The other side: what a process started by run_ranks() does. Its exit code.
inline int as_rank(const std::function<void(const Layout&, const std::shared_ptr<World>&)>& action) {
  try {
    const Json settings = parse_json(std::getenv("SWITCHYARD_TEST_LAYOUT"), "layout");
    const Launch launch = read_launch(process_environment());
    const Layout layout{.ranks = launch.world_size,
                        .expert_parallel = settings[0].get<int>(),
                        .distributed_optimizer = settings[1].get<bool>(),
                        .precision = settings[2].get<std::string>(),
                        .micro_batches = settings[3].get<int64_t>()};
    at::set_num_threads(1);
    ParallelConfig parallel;
    parallel.expert_parallel_size = layout.expert_parallel;
    parallel.timeout = 120;
    action(layout, World::join(launch, parallel, torch::kCPU));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace switchyard::test
