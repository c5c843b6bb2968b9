// Where the time of a training step goes: code says which part of the step it is, and a recorder, when there is one,
// adds up the time of each part, forward and backward. Without a recorder a mark costs two comparisons.
#pragma once

#include <ATen/record_function.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard {

enum class StepPart {
  kRouter,         // scores, choice, weights
  kDispatch,       // sorting by expert, gathering rows, adding results up
  kExperts,        // feed-forwards: routed, shared and dense
  kAttention,      // projections, rotation, attention
  kNorm,           // normalisations of the blocks
  kEmbedding,      // token and position embedding
  kLoss,           // output projection, cross-entropy, auxiliary losses
  kOptimizer,      // gradient norm, update
  kCommunication,  // waiting for other ranks
  kStatistics,     // sums over what the routers did
  kOverhead,       // all that is in no other part: residual additions, autograd's bookkeeping, making of batches
};
inline constexpr size_t kNumStepParts = 11;
// As in `switchyard bench --json` and in traces.
std::string_view part_name(StepPart part);

// Adds up wall-clock time by part on the thread that made it, from construction to destruction. The backward pass of an
// operation counts as the part that its forward pass was in. Nested parts count for themselves only. One at a time.
class StepPartRecorder {
 public:
  using Clock = std::chrono::steady_clock;

  // `wait` is called before every reading of the clock: on a GPU, the device's synchronisation.
  explicit StepPartRecorder(void (*wait)());
  ~StepPartRecorder();
  StepPartRecorder(const StepPartRecorder&) = delete;
  StepPartRecorder& operator=(const StepPartRecorder&) = delete;

  // Seconds by part since construction, indexed by StepPart.
  std::array<double, kNumStepParts> seconds();

  // The recorder of this thread, or null.
  static StepPartRecorder* current();
  void enter(StepPart part);
  void leave();
  // The part in which autograd nodes of this sequence number were made.
  StepPart part_of(uint64_t sequence_number) const;

 private:
  void charge();
  void note_change();

  void (*wait_)();
  Clock::time_point last_;
  std::array<Clock::duration, kNumStepParts> times_{};
  std::vector<StepPart> stack_ = {StepPart::kOverhead};
  std::vector<std::pair<uint64_t, StepPart>> changes_;  // from this sequence number on
  at::CallbackHandle callback_;
};

// Until the end of the scope, what this thread does belongs to `part`. Shows in profiler traces, too.
class StepPartScope {
 public:
  explicit StepPartScope(StepPart part);
  ~StepPartScope();
  StepPartScope(const StepPartScope&) = delete;
  StepPartScope& operator=(const StepPartScope&) = delete;

 private:
  at::RecordFunction trace_;
  bool recording_;
};

}  // namespace switchyard
