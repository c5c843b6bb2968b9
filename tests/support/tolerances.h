// The one table of how closely numbers must agree.
#pragma once

#include "ops/torch.h"

namespace switchyard::test {

// A value e of a tensor whose values are s large on average may be off by tolerance * (|e| + s): the rounding of a sum
// goes with the size of what was added, not with what is left of it. float32 and float64 leave room for sums over some
// hundred terms in another order, bfloat16 for a few roundings to 8 bits in a row.
inline double tolerance(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat64:
      return 1e-12;
    case torch::kFloat32:
      return 1e-5;
    case torch::kBFloat16:
      return 4e-2;
    default:
      return 0;  // integers and booleans are equal or not
  }
}

}  // namespace switchyard::test
