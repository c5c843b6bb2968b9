// SIGTERM, SIGINT, SIGUSR1 and SIGHUP ask a run to save and stop; asked once more, the process ends at once.
#pragma once

namespace switchyard {

// While it lives, the first of those signals is remembered, and a second one calls _exit(1). Launchers, schedulers and
// terminals that close send more than one signal for one request: for two seconds, the same signal once more and any
// one beside SIGHUP count as the same request. A SIGHUP that was ignored before (nohup) stays ignored. Restores what
// was there, unless a signal came: the same one once more shall not kill the process while it ends.
class StopSignals {
 public:
  // `answers`: the first signal is answered on standard error at once.
  explicit StopSignals(bool answers);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  static bool received();
  // Which one; 0 before one came.
  static int number();
  // "SIGTERM", ...; "" for 0.
  static const char* name(int number);
  // How long the last step took: part of the answer.
  static void note_step(double seconds);
};

}  // namespace switchyard
