// What follows from other keys.
#pragma once

#include "config/config.h"

namespace switchyard {

// Fills every Derived key of a valid Config that is not given, but for vocab_size, which is the tokenizer's.
void resolve(Config& config);

}  // namespace switchyard
