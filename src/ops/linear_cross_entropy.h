// Cross-entropy fused with the output projection: the [T, V] logits never exist as a whole.
// Legend: T tokens, D hidden, V vocabulary.
#pragma once

#include <optional>

#include "ops/block_sizes.h"
#include "ops/torch.h"

namespace switchyard {

// Mean over the T' positions with targets[t] >= 0 of -log softmax(z[t])[targets[t]] with the logits
// z[t] = hidden[t] weight^T, or soft_cap(that, *softcap) where softcap is given (ops/soft_cap.h), in nats.
// hidden [T, D] float32, bfloat16 or float64; weight [V, D] (cast to hidden's type for the product); targets [T] int64,
// negative: ignored (all of them: the loss is 0), V or above: c10::IndexError (on CUDA a device assertion). Returns a
// scalar, float32 (float64 for float64). Works through the tokens in chunks; where a gradient is wanted it is computed
// in the same pass (its weight part summed in float32). Collectives: none.
torch::Tensor linear_cross_entropy(const torch::Tensor& hidden, const torch::Tensor& weight,
                                   const torch::Tensor& targets, std::optional<double> softcap = std::nullopt);

// The same in chunks of about `chunk_elements` logits (at least 64 tokens), by ATen operations and without a host read:
// what CUDA takes.
torch::Tensor linear_cross_entropy_on_device(const torch::Tensor& hidden, const torch::Tensor& weight,
                                             const torch::Tensor& targets, std::optional<double> softcap = std::nullopt,
                                             int64_t chunk_elements = kLogitsChunkElementsOnDevice);

// The same in plain ATen operations, on any device; keeps the [T, V] logits.
torch::Tensor linear_cross_entropy_reference(const torch::Tensor& hidden, const torch::Tensor& weight,
                                             const torch::Tensor& targets,
                                             std::optional<double> softcap = std::nullopt);

}  // namespace switchyard
