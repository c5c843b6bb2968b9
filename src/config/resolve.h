// What follows from other keys.
#pragma once

#include "config/config.h"

namespace switchyard {

// Fills the optional keys of a valid Config that follow from others: num_key_value_heads, head_dim, both
// intermediate_sizes and global_batch_size. vocab_size stays open: it is the tokenizer's. Resolving twice changes
// nothing.
void resolve(Config& config);

}  // namespace switchyard
