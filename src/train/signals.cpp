#include "train/signals.h"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <string_view>

namespace switchyard {
namespace {

constexpr std::array<int, 4> kSignals = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};
constexpr int64_t kOneRequest = 2000;  // milliseconds
std::atomic<int> pending{0};
std::atomic<int64_t> pending_since{0};
std::atomic<int64_t> step_tenths{0};
std::atomic<bool> speaks{false};
std::array<struct sigaction, kSignals.size()> previous;

int64_t milliseconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// A line composed of pieces without what a signal handler must not call.
class Line {
 public:
  void add(std::string_view piece) { size_ += piece.copy(text_.data() + size_, text_.size() - size_); }
  void add(int64_t number) {
    const auto [end, error] = std::to_chars(text_.data() + size_, text_.data() + text_.size(), number);
    if (error == std::errc()) size_ = static_cast<size_t>(end - text_.data());
  }
  // Not where it would have to wait for a reader.
  void print() const {
    pollfd output{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&output, 1, 0) != 1 || (output.revents & POLLOUT) == 0) return;
    if (::write(STDERR_FILENO, text_.data(), size_) < 0) return;  // then nobody reads it
  }

 private:
  std::array<char, 256> text_;
  size_t size_ = 0;
};

void answer(int number) {
  Line line;
  if (::isatty(STDERR_FILENO) == 1) line.add("\r\x1b[K");  // over the progress line and the terminal's ^C
  line.add(StopSignals::name(number));
  line.add(" received: will save and stop when this step is done");
  if (const int64_t tenths = step_tenths; tenths > 0) {
    line.add(" (the last one took ");
    line.add(tenths / 10);
    line.add(".");
    line.add(tenths % 10);
    line.add(" s)");
  }
  line.add("; again in two seconds or later: stops at once, unsaved\n");
  line.print();
}

bool is_same_request(int first, int number) {
  const int64_t since = pending_since;
  if (since != 0 && milliseconds_now() - since >= kOneRequest) return false;
  return number == first || number == SIGHUP || first == SIGHUP;
}

extern "C" void on_stop_signal(int number) {
  const int reason = errno;
  int first = 0;
  if (pending.compare_exchange_strong(first, number)) {
    pending_since = milliseconds_now();
    if (speaks) answer(number);
  } else if (!is_same_request(first, number)) {
    ::_exit(1);
  }
  errno = reason;
}

}  // namespace

StopSignals::StopSignals(bool answers) {
  pending = 0;
  pending_since = 0;
  step_tenths = 0;
  speaks = answers;
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &action, &previous[i]);
    if (kSignals[i] == SIGHUP && previous[i].sa_handler == SIG_IGN) ::sigaction(SIGHUP, &previous[i], nullptr);
  }
}

StopSignals::~StopSignals() {
  if (received()) return;
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &previous[i], nullptr);
}

bool StopSignals::received() { return pending != 0; }

int StopSignals::number() { return pending; }

const char* StopSignals::name(int number) {
  switch (number) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGHUP:
      return "SIGHUP";
    default:
      return "";
  }
}

void StopSignals::note_step(double seconds) { step_tenths = static_cast<int64_t>(seconds * 10); }

}  // namespace switchyard
