// The safetensors file format: reading with every check before any allocation, and durable writing.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/files.h"
#include "checkpoint/safetensors_header.h"
#include "ops/torch.h"

namespace switchyard {

using TensorMap = std::map<std::string, torch::Tensor>;

// Writes tensors (any device, any strides) durably, one after the other: at most one of them is copied at a time.
// Sorted by descending alignment then name, header padded to 8. Returns the file's size and checksum.
// Throws CheckpointError naming the file (disk full) or the tensor (undefined, sparse, a dtype the format lacks).
FileDigest write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                             const std::map<std::string, std::string>& metadata = {});

class SafetensorsFile {
 public:
  // Maps the file and checks the whole header. Throws CheckpointError naming the file and the tensor.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorInfo>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  // A copy of one tensor on the CPU. Throws CheckpointError if there is none of that name, if memory is short, or if
  // a BOOL tensor holds a byte other than 0 and 1.
  torch::Tensor load(const std::string& name) const;
  TensorMap load_all() const;
  // The same without a copy where the file has it aligned for its type: flat, read-only, keeps `file` alive.
  static torch::Tensor view(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name);

 private:
  // The bytes of a tensor, checked.
  std::span<const std::byte> bytes_of(const std::string& name, const TensorInfo& info) const;
  const TensorInfo& info_of(const std::string& name) const;
  std::string where(const std::string& name) const;

  MappedFile file_;
  SafetensorsHeader header_;
};

}  // namespace switchyard
