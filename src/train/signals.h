// SIGTERM, SIGINT and SIGUSR1 ask a run to save and stop; a second one ends the process at once.
#pragma once

namespace switchyard {

// While it lives, the first of those signals is remembered and the second calls _exit(1). Restores what was there.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  static bool received();
  // Which one; 0 before one came.
  static int number();
  // "SIGTERM", ...; "" for 0.
  static const char* name(int number);
};

}  // namespace switchyard
