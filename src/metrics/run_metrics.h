// What a run folder says about its run, as columns of numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace switchyard {

inline constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

// Values over training steps, steps ascending; every column is as long as `step`, NaN where a line had no number.
struct Table {
  std::vector<int64_t> step;
  std::map<std::string, std::vector<double>> columns;
};

struct LayerMetrics {
  Table table;                            // max_violation, load_cv, entropy, ...
  std::vector<std::vector<double>> load;  // per entry of table.step: [E]
  Table probe;                            // at evaluations: drift, domain_information, domain_share
};

enum class RunStatus { kRunning, kStopped, kFinished };  // running: or ended without a word

struct RunMetrics {
  std::string name;                        // the folder's name
  Json facts = Json::object();             // fields of the start event, the newest where there are several
  std::vector<int64_t> resumed_at;         // steps
  RunStatus status = RunStatus::kRunning;  // by the newest start, end or stopped event
  int64_t last_step = 0;
  Table train;                             // tokens, loss, lm_loss, aux_loss, z_loss, lr, grad_norm, ...
  Table eval;                              // val_loss, perplexity
  std::map<std::string, Table> domains;    // as eval
  std::map<int64_t, LayerMetrics> layers;  // by layer index; empty for a dense model
  std::vector<Json> alarms;                // the alarm events, oldest first
  std::string config;                      // text of config.yaml, "" where there is none
};

// Reads `folder`/metrics.jsonl, and config.yaml where there is one. Fields that a line lacks are NaN, unknown events
// are passed over, and a line written again for the same or an earlier step replaces the later ones (a resume).
// Throws Error naming what is missing, or file and line of what is wrong.
RunMetrics read_run_metrics(const std::filesystem::path& folder);

}  // namespace switchyard
