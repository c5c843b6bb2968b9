#include "parallel/backends.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "base/errors.h"
#include "parallel/reason.h"

namespace switchyard {
namespace {

std::string place(const std::string& address, int port) { return address + ":" + std::to_string(port); }

// The addresses that a name stands for.
class Resolved {
 public:
  Resolved(const std::string& address, int port, int socket_type) {
    addrinfo hints{};
    hints.ai_socktype = socket_type;
    const int error = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list_);
    if (error != 0) {
      throw DistributedError("the address " + address + " (MASTER_ADDR) cannot be resolved: " + ::gai_strerror(error));
    }
  }
  ~Resolved() { ::freeaddrinfo(list_); }
  Resolved(const Resolved&) = delete;
  Resolved& operator=(const Resolved&) = delete;
  const addrinfo* first() const { return list_; }

 private:
  addrinfo* list_ = nullptr;
};

class Socket {
 public:
  explicit Socket(const addrinfo& info) : descriptor_(::socket(info.ai_family, info.ai_socktype, info.ai_protocol)) {}
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

// A listening socket on `address` alone: TCPStore by itself would listen on every interface.
int listen_on(const std::string& address, int port) {
  const Resolved resolved(address, port, SOCK_STREAM);
  int error = 0;
  for (const addrinfo* info = resolved.first(); info != nullptr; info = info->ai_next) {
    Socket socket(*info);
    const int yes = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (socket.get() >= 0 && ::bind(socket.get(), info->ai_addr, info->ai_addrlen) == 0 &&
        ::listen(socket.get(), 1024) == 0) {
      return socket.release();
    }
    error = errno;
  }
  const std::string what = "rank 0 cannot serve the store at " + place(address, port) + ": " + std::strerror(error);
  if (error == EADDRINUSE) throw DistributedError(what + "; choose a free port with MASTER_PORT");
  throw DistributedError(what + "; MASTER_ADDR must be an address of rank 0's machine");
}

template <class Make>
auto with_clear_errors(const std::string& what, const Make& make) {
  try {
    return make();
  } catch (const std::exception& error) {
    throw DistributedError(what + ": " + first_line(error));
  }
}

}  // namespace

std::string own_address_towards(const std::string& address, int port) {
  const Resolved resolved(address, port, SOCK_DGRAM);
  for (const addrinfo* info = resolved.first(); info != nullptr; info = info->ai_next) {
    const Socket socket(*info);
    // Connecting a datagram socket sends nothing; it chooses the interface.
    if (socket.get() < 0 || ::connect(socket.get(), info->ai_addr, info->ai_addrlen) != 0) continue;
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    std::array<char, NI_MAXHOST> text{};
    if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) ==
            0) {
      return text.data();
    }
  }
  throw DistributedError("no network interface of this machine leads to " + place(address, port) + " (MASTER_ADDR)");
}

c10::intrusive_ptr<c10d::Store> open_store(const Launch& launch, std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = launch.rank == 0 && !launch.agent_store;
  options.waitWorkers = false;
  options.timeout = timeout;
  if (options.isServer) options.masterListenFd = listen_on(launch.address, launch.port);
  const std::string what = "rank " + std::to_string(launch.rank) + " cannot reach rank 0's store at " +
                           place(launch.address, launch.port) + " (MASTER_ADDR, MASTER_PORT)";
  return with_clear_errors(what, [&]() -> c10::intrusive_ptr<c10d::Store> {
    auto store = c10::make_intrusive<c10d::TCPStore>(launch.address, options);
    const std::string prefix = "switchyard/" + launch.run_id + "/" + std::to_string(launch.restarts);
    return c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(store));
  });
}

std::shared_ptr<Engine> make_gloo(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name, int rank,
                                  int size, const std::string& own_address, std::chrono::milliseconds timeout) {
  const std::string what = "the ranks of group '" + name + "' cannot connect over " + own_address;
  return with_clear_errors(what, [&] {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(own_address));
    return std::make_shared<Engine>(Engine{c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::make_intrusive<c10d::PrefixStore>(name, store), rank, size, options)});
  });
}

std::shared_ptr<Engine> make_nccl(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name, int rank,
                                  int size, std::chrono::milliseconds timeout) {
#ifdef USE_C10D_NCCL
  return with_clear_errors("NCCL group '" + name + "'", [&] {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    return std::make_shared<Engine>(Engine{c10::make_intrusive<c10d::ProcessGroupNCCL>(
        c10::make_intrusive<c10d::PrefixStore>(name, store), rank, size, options)});
  });
#else
  static_cast<void>(store);
  static_cast<void>(rank);
  static_cast<void>(size);
  static_cast<void>(timeout);
  throw DistributedError("group '" + name +
                         "' is on GPUs, but this program was built without CUDA: use the cuda preset");
#endif
}

}  // namespace switchyard
