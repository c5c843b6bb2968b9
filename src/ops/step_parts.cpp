#include "ops/step_parts.h"

#include <ATen/SequenceNumber.h>
#include <c10/util/Exception.h>

#include <algorithm>

namespace switchyard {
namespace {

thread_local StepPartRecorder* recorder = nullptr;

// A node of the backward pass begins, and ends with its context.
struct NodeContext : at::ObserverContext {
  StepPartRecorder* entered = nullptr;
};

std::unique_ptr<at::ObserverContext> node_begins(const at::RecordFunction& node) {
  auto context = std::make_unique<NodeContext>();
  if (recorder != nullptr) {
    context->entered = recorder;
    recorder->enter(recorder->part_of(static_cast<uint64_t>(node.seqNr())));
  }
  return context;
}

void node_ends(const at::RecordFunction&, at::ObserverContext* context) {
  StepPartRecorder* entered = static_cast<NodeContext*>(context)->entered;
  if (entered != nullptr) entered->leave();
}

}  // namespace

std::string_view part_name(StepPart part) {
  switch (part) {
    case StepPart::kRouter:
      return "router";
    case StepPart::kDispatch:
      return "dispatch";
    case StepPart::kExperts:
      return "experts";
    case StepPart::kAttention:
      return "attention";
    case StepPart::kNorm:
      return "norm";
    case StepPart::kEmbedding:
      return "embedding";
    case StepPart::kLoss:
      return "loss";
    case StepPart::kOptimizer:
      return "optimizer";
    case StepPart::kCommunication:
      return "communication";
    case StepPart::kStatistics:
      return "statistics";
    case StepPart::kOverhead:
      return "overhead";
  }
  TORCH_CHECK_VALUE(false, "unknown part ", static_cast<int>(part));
}

StepPartRecorder::StepPartRecorder(void (*wait)()) : wait_(wait), last_(Clock::now()) {
  TORCH_CHECK(recorder == nullptr, "StepPartRecorder: there is one on this thread already");
  recorder = this;
  note_change();
  callback_ = at::addThreadLocalCallback(
      at::RecordFunctionCallback(node_begins, node_ends).scopes({at::RecordScope::BACKWARD_FUNCTION}));
}

StepPartRecorder::~StepPartRecorder() {
  at::removeCallback(callback_);
  recorder = nullptr;
}

StepPartRecorder* StepPartRecorder::current() { return recorder; }

std::array<double, kNumStepParts> StepPartRecorder::seconds() {
  charge();
  std::array<double, kNumStepParts> seconds{};
  std::transform(times_.begin(), times_.end(), seconds.begin(),
                 [](Clock::duration time) { return std::chrono::duration<double>(time).count(); });
  return seconds;
}

void StepPartRecorder::charge() {
  wait_();
  const auto now = Clock::now();
  times_[static_cast<size_t>(stack_.back())] += now - last_;
  last_ = now;
}

void StepPartRecorder::note_change() { changes_.emplace_back(at::sequence_number::peek(), stack_.back()); }

void StepPartRecorder::enter(StepPart part) {
  charge();
  stack_.push_back(part);
  note_change();
}

void StepPartRecorder::leave() {
  charge();
  stack_.pop_back();
  note_change();
}

StepPart StepPartRecorder::part_of(uint64_t sequence_number) const {
  // Nodes that no forward pass made (accumulation of gradients) have numbers beyond all.
  if (sequence_number >= at::sequence_number::peek()) return StepPart::kOverhead;
  const auto after = std::upper_bound(changes_.begin(), changes_.end(), sequence_number,
                                      [](uint64_t number, const auto& change) { return number < change.first; });
  return after == changes_.begin() ? StepPart::kOverhead : std::prev(after)->second;
}

StepPartScope::StepPartScope(StepPart part)
    : trace_(at::RecordScope::USER_SCOPE), recording_(StepPartRecorder::current() != nullptr) {
  if (trace_.isActive()) trace_.before(part_name(part));
  if (recording_) recorder->enter(part);
}

StepPartScope::~StepPartScope() {
  if (recording_) recorder->leave();
}

}  // namespace switchyard
