// The progress of a run on the terminal: one line that rewrites itself, or plain lines where there is no terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace switchyard {

struct Progress {
  int64_t step = 0;
  int64_t max_steps = 0;
  double loss = 0;     // nats per token
  double balance = 0;  // aux_loss, 1.0 is balanced; 0 for a dense model
  double tokens_per_second = 0;
  double seconds_left = 0;
};

class ProgressLine {
 public:
  ProgressLine();   // looks whether standard error is a terminal
  ~ProgressLine();  // ends the line

  // Rewrites the line; prints one line more where there is no terminal.
  void update(const Progress& progress);
  // Rewrites the line with other words (ASCII); nothing where there is no terminal.
  void show(const std::string& text);
  // Clears the line so that a log message can be printed (see before_terminal_message); nothing where there is no
  // terminal. The next update writes it again.
  void clear();

 private:
  bool terminal_;
  bool dirty_ = false;
};

// Work that consists of parts of about one length, on a terminal only: "batches routed 12/60  1m 05s left". While it
// lives, log messages clear its line.
class WorkProgress {
 public:
  explicit WorkProgress(std::string what);
  ~WorkProgress();
  WorkProgress(const WorkProgress&) = delete;
  WorkProgress& operator=(const WorkProgress&) = delete;

  // The time left is taken from the speed since the start.
  void update(int64_t done, int64_t total);

 private:
  std::string what_;
  std::function<void()> other_line_;  // what messages cleared before
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  ProgressLine line_;
};

// "step 120/1000  loss 2.345  balance 1.03  8,412 tok/s  1m 05s left", in at most `width` columns: a bar before it
// where there is room, facts left out from the right where there is not. width <= 0: all facts and no bar.
// A speed or time that is not finite (not known yet) is left out.
std::string format_progress(const Progress& progress, int width);

}  // namespace switchyard
