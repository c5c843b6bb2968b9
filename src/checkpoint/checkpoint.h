// A checkpoint is a folder: tensors as safetensors, the rest as JSON and text, and manifest.json, written last, with
// the size and checksum of every other file. A folder without a whole manifest is not a checkpoint.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/find.h"
#include "checkpoint/pieces.h"
#include "checkpoint/safetensors.h"
#include "parallel/group.h"

namespace switchyard {

struct Checkpoint {
  int64_t step = 0;
  TensorMap model;                           // model*.safetensors
  TensorMap optimizer;                       // optimizer*.safetensors
  Json trainer = Json::object();             // trainer.json: step, tokens, fingerprints, spike window, ...
  std::map<std::string, std::string> files;  // small text files beside them: config.yaml, tokenizer.json
};

// Saves as `folder`/step-%08d: everything is written into a temporary folder beside it (.tmp-step-*), flushed, then
// renamed, and the parent flushed. An existing whole checkpoint of the same step is left as it is; a damaged one is
// replaced. Afterwards all but the newest `keep_last` complete checkpoints (0: none; the one just saved always counts
// as the newest) are removed, each losing its name before its files; partial ones are left alone.
// Temporary folders left by killed processes are removed first: one process at a time saves into a folder.
// On any failure nothing older is touched and the temporary folder is removed. Throws CheckpointError: no space, a
// name in `files` that is no plain file name, a tensor that safetensors cannot hold, a trainer value that is not
// finite. Collectives: none.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                                      int64_t keep_last);

// What one of several ranks writes of a checkpoint. Over all ranks the pieces cover every tensor exactly once.
struct CheckpointShare {
  std::vector<TensorPiece> model;
  std::vector<TensorPiece> optimizer;
};

// The same by all ranks together, into one folder that all of them see: each writes its share to files of its own, the
// first one the rest. checkpoint.model and .optimizer are not looked at. If one rank fails, all throw and nothing is
// left. Collectives: gather_texts() and on_first() of `ranks`, a group for CPU tensors.
std::filesystem::path save_checkpoint_share(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                                            const CheckpointShare& share, int64_t keep_last, Group& ranks);

// Saves as the folder `path` itself, which must not exist, in the same way. Throws CheckpointError. Collectives: none.
void save_checkpoint_as(const std::filesystem::path& path, const Checkpoint& checkpoint);

// Which tensors to read: generate and eval need no optimizer.
struct LoadOptions {
  bool model = true;
  bool optimizer = true;
};

// Reads one checkpoint folder, every file verified against the manifest. Throws CheckpointError naming the file that
// is missing, cut, a link, or has a wrong checksum. Without the model's or the optimizer's tensors their files are
// still required, with the right size, but not read.
Checkpoint load_checkpoint(const std::filesystem::path& path, const LoadOptions& options = {});

// The tensors of a checkpoint, in its files until they are read: for what verify_checkpoint() has looked at, since only
// headers and sizes are checked here. Throws CheckpointError.
enum class TensorKind { kModel, kOptimizer };
TensorSource open_tensors(const std::filesystem::path& path, TensorKind kind);

// Every file of `path` verified against its manifest, nothing loaded. Throws CheckpointError.
void verify_checkpoint(const std::filesystem::path& path);

}  // namespace switchyard
