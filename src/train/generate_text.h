// Text that a checkpoint's model continues.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

struct SamplingOptions {
  int64_t max_new_tokens = 256;
  double temperature = 1.0;  // 0: always the most likely token
  int64_t top_k = 0;         // only the k most likely tokens; 0: all
  double top_p = 1.0;        // only the most likely tokens that together reach this probability (Holtzman et al. 2020)
  uint64_t seed = 0;
};

struct GenerateOptions {
  std::string checkpoint;  // as resolve_checkpoint takes it
  std::string prompt;
  SamplingOptions sampling;
  std::vector<std::string> overrides;
};

// Hands `write` the prompt, then the new text piece by piece, each of whole UTF-8 characters. Throws ConfigError where
// the model can't continue the prompt, CheckpointError.
void generate_text(const GenerateOptions& options, const std::function<void(std::string_view)>& write);

}  // namespace switchyard
