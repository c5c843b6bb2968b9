// Tensors that are spread over several files: each rank of a run writes the parts that it owns.
#pragma once

#include <filesystem>
#include <string>
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

// The tensors of such files put together. Throws CheckpointError naming tensor and file: parts that overlap, leave a
// hole, contradict each other or the shape; all of it before anything of a tensor's size is allocated.
TensorMap read_pieces(const std::vector<std::filesystem::path>& files);

}  // namespace switchyard
