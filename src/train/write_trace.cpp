#include "train/write_trace.h"

#include <memory>

#include "base/files.h"
#include "base/standard_streams.h"
#include "train/trace.h"

namespace switchyard {
namespace {

// Where lines go: the file, or standard output where there is none.
class LineSink {
 public:
  explicit LineSink(const std::string& path) {
    if (!path.empty()) file_ = std::make_unique<DurableFile>(path);
  }
  void write(const std::string& text) {
    if (file_) {
      file_->write(text.data(), text.size());
    } else {
      print_text(text);
    }
  }
  void finish() {
    if (file_) file_->commit();
  }

 private:
  std::unique_ptr<DurableFile> file_;
};

}  // namespace

int64_t write_trace(const TraceOptions& options) {
  LoadedModel loaded = load_model(options.checkpoint, options.overrides);
  require_experts(loaded, options.checkpoint);
  set_threads(loaded.config, {});
  Dataset dataset;
  if (options.data) dataset = open_dataset_of(loaded);
  std::vector<std::string> domains;
  for (const Domain& domain : dataset.domains) domains.push_back(domain.name);
  const OrderedJson header = trace_header(loaded, options.checkpoint, domains);
  WorkProgress progress("batches routed");
  const auto route = [&](const BatchUser& use) {
    options.data ? route_validation(loaded, dataset, use, &progress)
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
  return tokens;
}

}  // namespace switchyard
