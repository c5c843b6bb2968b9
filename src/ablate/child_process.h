// A run as a process of its own: a child of this one that cannot outlive it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

class ChildProcess {
 public:
  // Starts this very program with `arguments`; what it prints is appended to the file `output`. It reads nothing, is in
  // a process group of its own (so that Ctrl-C reaches this process alone), and gets SIGTERM when this process dies.
  // Throws Error when it cannot be started.
  ChildProcess(const std::vector<std::string>& arguments, const std::filesystem::path& output);
  // Tells it to stop (SIGTERM) if it is still there, and waits for that.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Its exit code once it has ended, 128 + N when signal N ended it. Doesn't wait.
  std::optional<int> exit_code();
  void send(int signal_number);

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

}  // namespace switchyard
