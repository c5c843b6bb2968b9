// What the program was built with, for those who don't see LibTorch's headers.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

struct BuildInfo {
  std::string torch_version;                    // "2.11.0"
  std::vector<std::string> processor_variants;  // that the fused loops are compiled for, the plainest first
  std::string processor_variant_in_use;         // the best of them that this processor has
  bool cuda = false;                            // whether kernels for GPUs are in it
};

BuildInfo build_info();

}  // namespace switchyard
