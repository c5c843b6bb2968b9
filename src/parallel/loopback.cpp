#include "parallel/loopback.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/errors.h"

namespace switchyard {
namespace {

constexpr size_t kPiece = 1 << 20;
constexpr size_t kPieces = 64;

class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {
    if (descriptor < 0) throw DistributedError(std::string("no loopback connection: ") + std::strerror(errno));
  }
  ~Socket() { ::close(descriptor_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

void check(int result) {
  if (result != 0) throw DistributedError(std::string("no loopback connection: ") + std::strerror(errno));
}

void send_all(int to) {
  const std::vector<char> piece(kPiece, 1);
  for (size_t sent = 0; sent < kPiece * kPieces;) {
    const ssize_t more = ::send(to, piece.data(), std::min(kPiece, kPiece * kPieces - sent), MSG_NOSIGNAL);
    if (more <= 0) return;  // the receiver says what is missing
    sent += static_cast<size_t>(more);
  }
}

void receive_all(int from) {
  std::vector<char> piece(kPiece);
  for (size_t received = 0; received < kPiece * kPieces;) {
    const ssize_t more = ::recv(from, piece.data(), piece.size(), 0);
    if (more <= 0) throw DistributedError("the loopback connection was cut");
    received += static_cast<size_t>(more);
  }
}

}  // namespace

double measure_loopback_bandwidth() {
  const Socket listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* where = reinterpret_cast<sockaddr*>(&address);
  check(::bind(listener.descriptor(), where, size));
  check(::listen(listener.descriptor(), 1));
  check(::getsockname(listener.descriptor(), where, &size));
  const Socket receiver(::socket(AF_INET, SOCK_STREAM, 0));
  check(::connect(receiver.descriptor(), where, size));
  const Socket sender(::accept(listener.descriptor(), nullptr, nullptr));
  double best = 0;
  for (int trial = 0; trial < 3; ++trial) {
    const auto begin = std::chrono::steady_clock::now();
    std::jthread sending(send_all, sender.descriptor());
    receive_all(receiver.descriptor());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, static_cast<double>(kPiece * kPieces) / seconds);
  }
  return best;
}

}  // namespace switchyard
