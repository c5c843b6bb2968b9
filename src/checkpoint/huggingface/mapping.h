// How a model's tensors are cut and named in a Hugging Face folder. Shapes follow from the configuration by arithmetic:
// nothing is allocated here.
// Legend: D hidden, H query heads, G key/value heads, hd head_dim, E experts, F width of a feed-forward, V vocabulary.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/huggingface/family.h"
#include "ops/torch.h"

namespace switchyard {

// A parameter or buffer of the model.
struct ModelTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// One tensor of the folder, which holds some rows of one of the model's.
struct TensorPart {
  std::string theirs;
  std::vector<int64_t> shape;  // theirs
  std::string ours;
  int64_t expert = -1;      // entry of a stack of experts; -1: there is no stack
  int64_t first_row = 0;    // of the matrix or vector
  bool transposed = false;  // GPT-2 stores [in, out]
  // Rotary rows, where not 0: of every `group_rows` rows the last `rotary_rows` come in pairs of neighbours in the
  // folder (DeepSeek), and as two halves in the model.
  int64_t group_rows = 0;
  int64_t rotary_rows = 0;
};

struct TensorMapping {
  std::vector<ModelTensor> ours;
  std::vector<TensorPart> parts;  // together they cover every value of `ours` once
  bool complete = true;           // false: there would be more than `most_parts`
};

// `config` must be resolved, with vocab_size set, and expressible (family.h). Not more than `most_parts` are made:
// whoever reads an untrusted folder knows how many tensors it has.
TensorMapping tensor_mapping(HfFamily family, const Config& config,
                             size_t most_parts = std::numeric_limits<size_t>::max());

// The part of `whole` (the model's tensor) in the folder's layout. A view where possible.
torch::Tensor take_part(const torch::Tensor& whole, const TensorPart& part);
// The opposite: writes `theirs` to its place in `whole`.
void put_part(torch::Tensor whole, const TensorPart& part, const torch::Tensor& theirs);

}  // namespace switchyard
