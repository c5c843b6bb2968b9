// Tensors that are spread over several files: each rank of a run writes the parts that it owns.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/safetensors.h"
#include "ops/torch.h"

namespace switchyard {

// Elements [begin, begin + data.numel()), row-major, of a tensor of `shape`.
struct TensorPiece {
  std::string name;
  torch::Tensor data;
  std::vector<int64_t> shape;
  int64_t begin = 0;

  bool whole() const { return data.numel() == c10::multiply_integers(shape); }
};

// Whole tensors as pieces.
std::vector<TensorPiece> whole_pieces(const std::vector<std::pair<std::string, torch::Tensor>>& tensors);
std::vector<TensorPiece> whole_pieces(const TensorMap& tensors);

// One safetensors file of pieces: whole tensors under their names; parts, flat, as "name[begin:end]", with the shape of
// the whole as metadata under the name. Throws as write_safetensors() does.
FileDigest write_pieces(const std::filesystem::path& path, const std::vector<TensorPiece>& pieces);

// Tensors to be read, whole or in part. Those of files stay there until then: a rank reads its share only.
class TensorSource {
 public:
  // A tensor, and the runs of its elements, row-major, in order.
  struct Parts {
    std::vector<int64_t> shape;
    std::vector<std::pair<int64_t, torch::Tensor>> list;  // first element, values [n]
  };

  TensorSource(const TensorMap& tensors);  // NOLINT: those in memory stand wherever those of files do
  // Of files that write_pieces() made. Throws CheckpointError naming tensor and file: parts that overlap, leave a hole,
  // contradict each other or the shape; all of it before anything of a tensor's size is allocated.
  explicit TensorSource(const std::vector<std::filesystem::path>& files);

  const std::map<std::string, Parts>& tensors() const { return tensors_; }
  // Fills piece.data, of any type and device, from the tensor of that name, which has piece.shape.
  void read(const TensorPiece& piece) const;
  // Copies of all.
  TensorMap read_all() const;

 private:
  std::map<std::string, Parts> tensors_;
};

}  // namespace switchyard
