// libFuzzer's entry points. FUZZ_TARGET names the target to run; FUZZ_SEEDS, a folder, makes the program write the
// seeds of every target into FOLDER/TARGET and end. scripts/fuzz.sh does both.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>

#include "base/files.h"
#include "tests/fuzz/target.h"

namespace switchyard::fuzz {
namespace {

std::vector<Target> all_targets() {
  std::vector<Target> all;
  for (const auto& targets : {config_targets(), data_targets(), checkpoint_targets(), run_targets()}) {
    all.insert(all.end(), targets.begin(), targets.end());
  }
  return all;
}

void write_seeds(const std::filesystem::path& folder) {
  for (const Target& target : all_targets()) {
    std::filesystem::create_directories(folder / target.name);
    for (const std::string& seed : target.seeds()) test::spill(folder / target.name / checksum(seed), seed);
  }
}

Target target_named(const std::string& name) {
  const std::vector<Target> all = all_targets();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Target& target) { return target.name == name; });
  if (found != all.end()) return *found;
  std::fprintf(stderr, "FUZZ_TARGET must be one of:");
  for (const Target& target : all) std::fprintf(stderr, " %s", target.name);
  std::fprintf(stderr, "\n");
  std::exit(2);
}

Target chosen;

}  // namespace
}  // namespace switchyard::fuzz

extern "C" int LLVMFuzzerInitialize(int* /*count*/, char*** /*arguments*/) {
  spdlog::set_level(spdlog::level::off);
  if (const char* folder = std::getenv("FUZZ_SEEDS")) {
    switchyard::fuzz::write_seeds(folder);
    std::exit(0);
  }
  const char* name = std::getenv("FUZZ_TARGET");
  switchyard::fuzz::chosen = switchyard::fuzz::target_named(name == nullptr ? "" : name);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  switchyard::fuzz::chosen.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
