// sample_report FOLDER: writes reports of made-up runs there, for scripts/check_report.py to open in a browser:
// one run, four (one of them dense), a dense one, a sweep of ten with long names, and one that has hardly begun.
#include <cstdio>
#include <exception>

#include "metrics/report.h"
#include "tests/support/sample_run.h"
#include "tests/support/temporary_folder.h"

namespace {

void write_reports(const std::filesystem::path& root) {
  using switchyard::render_report;
  using switchyard::test::spill;
  using switchyard::test::write_sample_run;
  const auto balanced = write_sample_run(root, {.name = "moe-8x2"});
  const auto loose = write_sample_run(root, {.name = "moe-8x2-no-aux", .imbalance = 1.0, .seed = 2});
  const auto wide =
      write_sample_run(root, {.name = "moe-32x2", .layers = 2, .experts = 32, .imbalance = 0.4, .seed = 3});
  const auto dense = write_sample_run(root, {.name = "dense <b>", .steps = 1200, .layers = 0, .seed = 4});
  spill(root / "single.html", render_report({balanced}));
  spill(root / "compared.html", render_report({balanced, loose, wide, dense}));
  spill(root / "dense.html", render_report({dense}));
  std::vector<std::filesystem::path> sweep;
  for (uint64_t i = 0; i < 10; ++i) {
    sweep.push_back(write_sample_run(root, {.name = "sweep-moe.aux_loss_coeff=0.0" + std::to_string(i) + "-run.seed=1",
                                            .steps = 400,
                                            .layers = 3,
                                            .experts = 64,
                                            .imbalance = 0.1 * static_cast<double>(i),
                                            .seed = i}));
  }
  spill(root / "sweep.html", render_report(sweep));
  const std::filesystem::path fresh = root / "fresh";
  std::filesystem::create_directories(fresh);
  spill(fresh / "metrics.jsonl",
        "{\"event\":\"start\",\"step\":0,\"parameters\":1000}\n"
        "{\"event\":\"train\",\"step\":1,\"loss\":null,\"lr\":0}\n");
  spill(root / "fresh.html", render_report({fresh}));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: sample_report FOLDER\n", stderr);
    return 2;
  }
  try {
    write_reports(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sample_report: %s\n", error.what());
    return 1;
  }
  return 0;
}
