// Text generation with a key/value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/transformer.h"
#include "train/generate_text.h"

namespace switchyard {

// Chooses from logits [V] (any floating type, on any device); `position` numbers the draw, so that the same seed gives
// the same text. Ties go to the lower id.
int32_t sample_token(const torch::Tensor& logits, const SamplingOptions& options, int64_t position);

// Continues `prompt` (not empty) until `end_of_text` is drawn, max_new_tokens are there, or `on_token` returns false.
// Only ids below `num_ids` are drawn: a vocabulary that is padded to a round size has more than its tokenizer knows.
// Returns the new tokens without end_of_text. The model must be in evaluation mode.
std::vector<int32_t> generate(Transformer& model, const std::vector<int32_t>& prompt, int32_t end_of_text,
                              int64_t num_ids, const SamplingOptions& options,
                              const std::function<bool(int32_t)>& on_token);

}  // namespace switchyard
