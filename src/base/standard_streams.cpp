#include "base/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/errors.h"

namespace switchyard {
namespace {

[[noreturn]] void fail_to_print(int reason) {
  throw Error(std::string("cannot write to standard output: ") +
              (reason != 0 ? std::strerror(reason) : "some of it was lost before"));
}

}  // namespace

void open_standard_descriptors() {
  // In ascending order: open() takes the lowest number that is free.
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) == -1) ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

void print_text(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_to_print(errno);
}

void flush_standard_output() {
  const bool lost = std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) == 0 && !lost) return;
  // Why an earlier write failed isn't kept: one more tells.
  if (errno == 0 && std::fputc('\n', stdout) != EOF) std::fflush(stdout);
  fail_to_print(errno);
}

}  // namespace switchyard
