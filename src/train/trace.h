// Routing traces: which experts each token went to, token by token. The formats are described in docs/trace.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "train/routed_batches.h"

namespace switchyard {

// What a trace says about itself: format, checkpoint, step, num_experts, top_k, layers, domains, seq_length.
OrderedJson trace_header(const LoadedModel& loaded, const std::string& checkpoint,
                         const std::vector<std::string>& domains);

// The lines of one token after the other, one per MoE layer.
class TraceLines {
 public:
  TraceLines(const Tokenizer& tokenizer, std::vector<std::string> domains)
      : tokenizer_(tokenizer), domains_(std::move(domains)) {}

  // JSON lines of a batch, each with its line end.
  std::string lines(const RoutedBatch& batch);

 private:
  const Json& text_of(int32_t token);

  const Tokenizer& tokenizer_;
  std::vector<std::string> domains_;
  std::map<int32_t, Json> texts_;
  int64_t sequences_ = 0;
};

// The same as tensors: token, sequence, position, domain [T] int32 and, per MoE layer, layers.N.experts [T, K] int32
// (-1: no choice) and layers.N.weights [T, K] float32.
class TraceTensors {
 public:
  void add(const RoutedBatch& batch);
  TensorMap tensors() const;

 private:
  std::map<std::string, std::vector<torch::Tensor>> parts_;
  int64_t sequences_ = 0;
};

}  // namespace switchyard
