#include "cli/version.h"

#include "ops/build_info.h"

namespace switchyard {

std::string version_text() {
  const BuildInfo info = build_info();
  std::string variants;
  for (const std::string& name : info.processor_variants) variants += (variants.empty() ? "" : ", ") + name;
  return "switchyard " + std::string(program_version()) + " (commit " + source_commit() + ")\n" +   //
         "LibTorch            " + info.torch_version + "\n" +                                       //
         "processor variants  " + variants + "; in use: " + info.processor_variant_in_use + "\n" +  //
         "CUDA                " + (info.cuda ? "yes" : "no");
}

}  // namespace switchyard
