// The routing of a checkpoint's model as a file. The formats are described in docs/trace.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

struct TraceOptions {
  std::string checkpoint;  // as resolve_checkpoint takes it
  std::vector<std::string> overrides;
  std::string text;   // what is traced, unless `data`
  bool data = false;  // the validation windows of the configuration's data
  std::string out;    // JSON lines, or tensors where it ends in .safetensors; empty: JSON lines to standard output
};

// Returns the number of tokens. Throws ConfigError, CheckpointError, DataError, Error (a full disk, a closed pipe).
int64_t write_trace(const TraceOptions& options);

}  // namespace switchyard
