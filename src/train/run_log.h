// Everything a run writes about itself: metrics.jsonl, TensorBoard events, the progress line.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "base/progress.h"
#include "metrics/collapse_alarm.h"
#include "metrics/jsonl.h"
#include "metrics/tensorboard.h"
#include "train/evaluate.h"
#include "train/routing_probe.h"
#include "train/routing_summary.h"
#include "train/step.h"

namespace switchyard {

class RunLog {
 public:
  // `resume_step` < 0: a new run. Lines of later steps are removed from metrics.jsonl.
  RunLog(const std::filesystem::path& folder, const Config& config, int64_t resume_step);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  void start(int64_t step, const Config& config);
  void training(int64_t step, int64_t tokens, const StepLosses& losses, double lr, double tokens_per_second);
  void routing(int64_t step, const std::vector<LayerRouting>& layers);
  void alarm(int64_t step, const Collapse& collapse, const std::string& advice);
  void probe(int64_t step, const std::vector<ProbedRouting>& layers, const std::vector<std::string>& domains);
  void depth(int64_t step, const DepthTotals& totals);
  void evaluation(int64_t step, const Evaluation& evaluation);
  void event(const char* name, int64_t step);
  void progress(const Progress& progress, bool logged_step);

 private:
  void scalar(const std::string& tag, double value, int64_t step);

  JsonlWriter lines_;
  std::unique_ptr<EventWriter> events_;  // null when metrics.tensorboard is off
  ProgressLine progress_;
  bool terminal_;
};

}  // namespace switchyard
