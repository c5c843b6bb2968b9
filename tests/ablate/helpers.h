// Helpers of the sweep tests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ablate/plan.h"
#include "ablate/sweep.h"
#include "tests/support/temporary_folder.h"

namespace switchyard::ablate_test {

inline constexpr std::string_view kBase =
    "model: {hidden_size: 16, num_layers: 2, num_attention_heads: 2, vocab_size: 50}\n"
    "moe: {num_experts: 4, top_k: 2}\n"
    "data: {tokenizer: byte, sources: [{name: text, files: [\"*.txt\"]}]}\n"
    "training: {max_steps: 100, seq_length: 16, micro_batch_size: 4}\n";

// A folder with base.yaml in it, and sweeps that start from it.
class SweepFiles {
 public:
  SweepFiles() { test::spill(folder_ / "base.yaml", kBase); }

  Sweep sweep(const std::string& text) const { return parse_sweep("base: base.yaml\n" + text, name(), folder_.path()); }
  Plan plan(const std::string& text, const std::vector<std::string>& overrides = {}, int64_t threads = 1) const {
    return make_plan(sweep(text), overrides, threads);
  }
  std::string name() const { return (folder_ / "s.yaml").string(); }
  std::filesystem::path operator/(const std::string& file) const { return folder_ / file; }

 private:
  test::TemporaryFolder folder_;
};

inline std::vector<std::string> labels_of(const std::vector<Setting>& settings) {
  std::vector<std::string> labels;
  for (const Setting& setting : settings) labels.push_back(setting.label);
  return labels;
}

}  // namespace switchyard::ablate_test
