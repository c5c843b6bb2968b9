#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/errors.h"
#include "base/text.h"
#include "cli/commands.h"
#include "train/write_trace.h"

namespace switchyard {
namespace {

int run_trace(const TraceOptions& options, bool has_text) {
  if (has_text == options.data) throw ConfigError("trace needs one of --text TEXT and --data");
  const int64_t tokens = write_trace(options);
  if (!options.out.empty()) {
    std::printf("wrote %s: the routing of %s tokens\n", options.out.c_str(), with_thousands(tokens).c_str());
  }
  return kExitDone;
}

}  // namespace

Command add_trace(CLI::App& app) {
  auto options = std::make_shared<TraceOptions>();
  app.add_option("CHECKPOINT", options->checkpoint, "A checkpoint folder, or a run folder (its newest)")->required();
  app.add_option("OVERRIDES", options->overrides, "key=value, for instance eval.batches=0 for all validation data");
  const CLI::Option* text = app.add_option("--text", options->text, "The text whose routing is traced");
  app.add_flag("--data", options->data, "Trace the validation windows of the configuration's data");
  app.add_option("--out", options->out,
                 "The file to write: JSON lines, or tensors where its name ends in .safetensors; default: JSON lines "
                 "to standard output");
  return [options, text] { return run_trace(*options, text->count() > 0); };
}

}  // namespace switchyard
