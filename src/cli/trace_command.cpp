#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/errors.h"
#include "base/text.h"
#include "cli/commands.h"
#include "train/trace.h"

namespace switchyard {
namespace {

struct TraceOptions {
  std::string checkpoint;
  std::vector<std::string> overrides;
  std::string text;
  bool data = false;
  std::string out;
};

// Where lines go: the file, or standard output where there is none.
class LineSink {
 public:
  explicit LineSink(const std::string& path) {
    if (!path.empty()) file_ = std::make_unique<DurableFile>(path);
  }
  void write(const std::string& text) {
    if (file_) {
      file_->write(text.data(), text.size());
    } else if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
      throw Error("standard output takes no more of the trace");
    }
  }
  void finish() {
    if (file_) file_->commit();
  }

 private:
  std::unique_ptr<DurableFile> file_;
};

int run_trace(const TraceOptions& options, bool has_text) {
  if (has_text == options.data) throw ConfigError("trace needs one of --text TEXT and --data");
  LoadedModel loaded = load_model(options.checkpoint, options.overrides);
  require_experts(loaded, options.checkpoint);
  set_threads(loaded.config);
  Dataset dataset;
  if (options.data) dataset = open_dataset_of(loaded);
  std::vector<std::string> domains;
  for (const Domain& domain : dataset.domains) domains.push_back(domain.name);
  const OrderedJson header = trace_header(loaded, options.checkpoint, domains);
  const auto route = [&](const BatchUser& use) {
    options.data ? route_validation(loaded, dataset, use)
                 : route_tokens(loaded, loaded.tokenizer->encode(options.text), use);
  };
  int64_t tokens = 0;
  if (options.out.ends_with(".safetensors")) {
    TraceTensors tensors;
    route([&](const RoutedBatch& batch) {
      tensors.add(batch);
      tokens += static_cast<int64_t>(batch.tokens.size());
    });
    write_safetensors(options.out, tensors.tensors(), {{"trace", header.dump()}});
  } else {
    LineSink sink(options.out);
    sink.write(header.dump() + "\n");
    TraceLines lines(*loaded.tokenizer, domains);
    route([&](const RoutedBatch& batch) {
      sink.write(lines.lines(batch));
      tokens += static_cast<int64_t>(batch.tokens.size());
    });
    sink.finish();
  }
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
