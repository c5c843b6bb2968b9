// sample_ablation FOLDER: writes reports of made-up sweeps there, for scripts/check_report.py to open in a browser:
// seven settings of three seeds with a failed run, and twenty of one seed with long names.
#include <cstdio>
#include <exception>

#include "ablate/ablation_report.h"
#include "tests/ablate/sample_sweep.h"
#include "tests/support/temporary_folder.h"

namespace {

using namespace switchyard;

void write_reports(const std::filesystem::path& root) {
  std::filesystem::create_directories(root);
  const std::vector<std::pair<std::string, double>> settings = {
      {"aux_loss_coeff=0", 1.5},    {"aux_loss_coeff=1e-4", 1.4}, {"aux_loss_coeff=1e-3", 0.9},
      {"aux_loss_coeff=1e-2", 0.3}, {"aux_loss_coeff=1e-1", 0.1}, {"aux_loss_coeff=1", 0.05},
      {"expert bias", 0.12}};
  ablate_test::SampleSweep sweep(root / "runs", settings, 3, 1000);
  sweep.fail(4, "12:00:01 error the loss is not finite at step 3 <nan>\nsecond line (exit code 1)");
  test::spill(root / "ablation.html", render_ablation(sweep.plan, sweep.results()));
  std::vector<std::pair<std::string, double>> many;
  for (int i = 0; i < 20; ++i) {
    many.emplace_back("num_experts=" + std::to_string(8 + i) + ", intermediate_size=176, capacity_factor=1.25",
                      0.05 * i);
  }
  const ablate_test::SampleSweep wide(root / "many", many, 1, 400);
  test::spill(root / "ablation-many.html", render_ablation(wide.plan, wide.results()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: sample_ablation FOLDER\n", stderr);
    return 2;
  }
  try {
    write_reports(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sample_ablation: %s\n", error.what());
    return 1;
  }
  return 0;
}
