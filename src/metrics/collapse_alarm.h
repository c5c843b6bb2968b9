// Says when the routing of a layer has collapsed: one expert has too much, or too many have nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "config/config.h"
#include "metrics/routing_statistics.h"

namespace switchyard {

enum class CollapseKind { kLoad, kDead };

const char* kind_name(CollapseKind kind);  // "load", "dead_experts"

struct Collapse {
  CollapseKind kind = CollapseKind::kLoad;
  int64_t layer = 0;
  std::vector<int64_t> experts;  // kLoad: the one with too much; kDead: those without a token
  double share = 0;              // kLoad: of the tokens that go to it; kDead: of the layer's experts
  double limit = 0;              // what `share` has reached
};

// The share of a layer's tokens from which on one expert has too much: metrics.alarm.load_share of the way from the
// fair share (experts_per_token / E) to all tokens. Above 1, so never reached, where every expert sees every token.
double overload_limit(const AlarmConfig& config, double experts_per_token, int64_t num_experts);

// Fed with the statistics of every logged step. A layer's alarm sounds once, when its condition has held for
// metrics.alarm.patience logged steps in a row, and again only after the condition has not held in between. What it
// remembers is not saved: after a resume it counts anew, so that it may sound again, up to `patience` logged steps
// later.
class CollapseAlarm {
 public:
  explicit CollapseAlarm(const AlarmConfig& config) : config_(config) {}

  // The alarms that sound now. Nothing with action off.
  std::vector<Collapse> judge(int64_t layer, const RoutingStatistics& statistics);

 private:
  bool sounds(int64_t layer, CollapseKind kind, bool holds);

  AlarmConfig config_;
  std::map<std::pair<int64_t, CollapseKind>, int64_t> streaks_;  // logged steps for which the condition has held
};

// What is wrong, and what could be changed in `moe` against it: one sentence each.
std::string describe_collapse(const Collapse& collapse);
std::string advice_against(const Collapse& collapse, const MoeConfig& moe);

// The {"event":"alarm", ...} line of metrics.jsonl.
OrderedJson alarm_event(int64_t step, const Collapse& collapse, const std::string& advice);

}  // namespace switchyard
