// What the routers do with the validation tokens, which are the same at every evaluation: by domain, in pairs, and
// since the last time. Costs the training step nothing.
// Legend: T tokens, E experts, L MoE layers, N domains.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "metrics/information.h"
#include "model/transformer.h"
#include "ops/torch.h"
#include "parallel/group.h"

namespace switchyard {

// One layer over one evaluation.
struct ProbedRouting {
  int64_t layer = 0;
  CountTable domain_counts;  // [N][E] assignments of each domain's tokens, before drops
  CountTable pair_counts;    // [E][E] tokens that were sent to both; the diagonal to the one
  int64_t compared = 0;      // tokens that the last evaluation saw, too (none at the first)
  int64_t changed = 0;       // of these, tokens whose set of experts is another
};

class RoutingProbe {
 public:
  // Remembers the assignments of at most `max_compared` tokens, the first ones of every domain alike.
  explicit RoutingProbe(int64_t num_domains, int64_t max_compared = int64_t{1} << 18)
      : num_domains_(num_domains), max_compared_(max_compared / num_domains) {}

  // Forgets an evaluation that was cut off.
  void begin();
  // One batch of `domain`, in the order of all earlier evaluations. Where it is not `counted`, another rank counts it.
  // No host synchronisation. Collectives: none.
  void add(int64_t domain, const ModelOutput& output, bool counted = true);
  // The numbers of this evaluation over all ranks of the group, which the next one is compared with. Collectives: three
  // all-reduces a layer.
  std::vector<ProbedRouting> finish(Group& ranks);

 private:
  // Sums over tokens, int64 on the device: no order of adding can change them.
  struct Layer {
    torch::Tensor domain_counts;                         // [N, E]
    torch::Tensor pair_counts;                           // [E, E]
    std::map<int64_t, std::vector<torch::Tensor>> sets;  // by domain, a tensor a batch: [T] as set_hashes()
  };
  int64_t num_domains_;
  int64_t max_compared_;                   // tokens of a domain
  std::map<int64_t, Layer> layers_;        // by block
  std::map<int64_t, torch::Tensor> last_;  // by block: the sets of the last evaluation, domain by domain
};

// The {"event":"routing_eval", ...} line of metrics.jsonl.
OrderedJson probe_event(int64_t step, const ProbedRouting& probed, const std::vector<std::string>& domains);

// The most frequent pairs of different experts: [smaller, larger, tokens], most frequent first, at most `limit`.
std::vector<std::vector<int64_t>> frequent_pairs(const CountTable& pair_counts, size_t limit);

}  // namespace switchyard
