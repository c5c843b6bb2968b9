// The files of a Hugging Face folder: config.json, tensors in one safetensors file or several with an index, and small
// files beside them.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "ops/torch.h"

namespace switchyard {

// An untrusted folder, opened for reading. Every file is a regular one of this very folder: names with a path in them
// and links are refused.
class HfFolder {
 public:
  // Reads config.json and the index, maps every safetensors file and checks all headers; the tensors of the files are
  // exactly those of the index. Nothing of a tensor's size is allocated. Throws CheckpointError.
  explicit HfFolder(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const Json& config() const { return config_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  // A copy of one tensor as float32. Throws CheckpointError.
  torch::Tensor load(const std::string& name) const;

 private:
  void open_file(const std::string& name);
  void open_shards();

  std::filesystem::path path_;
  Json config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, size_t> file_of_;  // tensor -> index into files_
};

// Whether float32 holds every value of the type.
bool is_readable_weight(torch::ScalarType dtype);

// Checks that `name` is a regular file in `folder`, no link and no path. `whose`: who names it, for the message.
// Throws CheckpointError.
void check_plain_file(const std::filesystem::path& folder, const std::string& name, const std::string& whose);

// One tensor to write, made when its turn comes: at most one file's tensors are in memory besides what `make` refers
// to.
struct HfTensor {
  std::string name;
  uint64_t bytes = 0;
  std::function<torch::Tensor()> make;  // float32
};

// The size above which tensors are spread over several files, as transformers does.
inline constexpr uint64_t kHfShardBytes = 5'000'000'000;

// Writes a new folder `path`: everything goes into a temporary neighbour that is renamed at the end. Throws
// CheckpointError when `path` exists or something can't be written; nothing is left behind then.
void write_hf_folder(const std::filesystem::path& path, const std::map<std::string, std::string>& small_files,
                     const std::vector<HfTensor>& tensors, uint64_t shard_bytes = kHfShardBytes);

}  // namespace switchyard
