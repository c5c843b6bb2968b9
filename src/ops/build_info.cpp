#include "ops/build_info.h"

#include <torch/version.h>

#include "ops/kernels/kernels.h"

namespace switchyard {

BuildInfo build_info() {
  BuildInfo info{
      .torch_version = TORCH_VERSION, .processor_variants = {}, .processor_variant_in_use = kernels::instruction_set()};
  for (const char* name : kernels::compiled_instruction_sets()) info.processor_variants.emplace_back(name);
#ifdef SWITCHYARD_CUDA
  info.cuda = true;
#endif
  return info;
}

}  // namespace switchyard
