#include <CLI/CLI.hpp>
#include <memory>

#include "base/standard_streams.h"
#include "cli/commands.h"
#include "cli/numbers.h"
#include "train/generate_text.h"

namespace switchyard {
namespace {

int run_generate(const GenerateOptions& options) {
  generate_text(options, [](std::string_view text) {
    print_text(text);
    flush_standard_output();
  });
  print_text("\n");
  return kExitDone;
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  SamplingOptions& sampling = options->sampling;
  app.add_option("CHECKPOINT", options->checkpoint, "A checkpoint folder, or a run folder (its newest)")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value, for instance training.precision=fp32");
  app.add_option("--prompt", options->prompt, "The text to continue")->required();
  app.add_option("--max-new-tokens", sampling.max_new_tokens, "How many tokens at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--temperature", sampling.temperature, "0: always the most likely token")
      ->check(number_between(1e-6, 100, /*or_zero=*/true))
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "Only the k most likely tokens; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "Only the most likely tokens that together reach this probability")
      ->check(number_between(1e-6, 1))
      ->capture_default_str();
  app.add_option("--seed", sampling.seed, "The same seed gives the same text")->capture_default_str();
  return [options] { return run_generate(*options); };
}

}  // namespace switchyard
