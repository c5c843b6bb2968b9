#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/errors.h"
#include "base/files.h"
#include "cli/commands.h"
#include "metrics/page.h"
#include "train/study_specialisation.h"

namespace switchyard {
namespace {

struct SpecialisationCommandOptions {
  std::vector<std::string> arguments;  // checkpoints and overrides
  SpecialisationOptions study;
  std::string out;
  bool json = false;
};

void print_table(const OrderedJson& checkpoint) {
  std::printf("%s, step %ld\n%s\n\n", checkpoint["name"].get<std::string>().c_str(), checkpoint["step"].get<long>(),
              checkpoint["verdict"].get<std::string>().c_str());
  std::printf("%-6s %-18s %9s %11s %11s %10s %8s\n", "layer", "label", "nats", "of label", "of expert", "by chance",
              "p");
  for (const OrderedJson& layer : checkpoint["layers"]) {
    for (const auto& [label, found] : layer["information"].items()) {
      std::printf("%-6ld %-18s %9.4f %9.2f %% %9.2f %% %10.4f %8.3f\n", layer["layer"].get<long>(), label.c_str(),
                  found["nats"].get<double>(), 100 * found["of_label"].get<double>(),
                  100 * found["of_expert"].get<double>(), found["chance"].get<double>(),
                  found["p_value"].get<double>());
    }
  }
}

int run_specialisation(const SpecialisationCommandOptions& options) {
  std::vector<std::string> checkpoints, overrides;
  for (const std::string& word : options.arguments) {
    const bool is_override = word.find('=') != std::string::npos && !std::filesystem::exists(word);
    (is_override ? overrides : checkpoints).push_back(word);
  }
  if (checkpoints.empty()) throw ConfigError("specialisation needs a checkpoint folder, or a run folder");
  const OrderedJson result = study_specialisation(checkpoints, overrides, options.study);
  if (!options.out.empty()) {
    const OrderedJson& all = result["checkpoints"];
    const std::string title = all.size() == 1 ? all[0]["name"].get<std::string>()
                                              : "Specialisation of " + std::to_string(all.size()) + " checkpoints";
    replace_file(options.out, page::render(page::kSpecialisationScript, title, "switchyard specialisation",
                                           Json::parse(result.dump(-1, ' ', false, Json::error_handler_t::replace))));
  }
  if (options.json) {
    std::printf("%s\n", result.dump(1, ' ', false, Json::error_handler_t::replace).c_str());
    return kExitDone;
  }
  for (const OrderedJson& checkpoint : result["checkpoints"]) print_table(checkpoint);
  if (!options.out.empty()) std::printf("wrote %s\n", options.out.c_str());
  return kExitDone;
}

}  // namespace

Command add_specialisation(CLI::App& app) {
  auto options = std::make_shared<SpecialisationCommandOptions>();
  app.add_option("CHECKPOINT", options->arguments,
                 "Checkpoint folders, or run folders (their newest), of which the first one's data is used; then "
                 "key=value, for instance eval.batches=0 for all validation data")
      ->required();
  app.add_option("--out", options->out, "The HTML file to write; default: none");
  app.add_option("--shufflings", options->study.shufflings, "Of labels, for what chance alone gives")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--seed", options->study.seed, "Of the shufflings")->capture_default_str();
  app.add_flag("--json", options->json, "Print JSON");
  return [options] { return run_specialisation(*options); };
}

}  // namespace switchyard
