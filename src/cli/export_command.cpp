#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "checkpoint/huggingface/family.h"
#include "cli/commands.h"
#include "train/huggingface.h"

namespace switchyard {
namespace {

struct ExportOptions {
  std::string checkpoint;
  std::string format = "hf";
  std::string family;
  std::string out;
};

int run_export(const ExportOptions& options) {
  const Exported exported = export_checkpoint(options.checkpoint, options.family, options.out);
  std::string names;
  for (const std::string& name : exported.tokenizer_files) names += (names.empty() ? "" : ", ") + name;
  std::printf("wrote %s: %s, step %ld; tokenizer: %s\n", options.out.c_str(), exported.architecture.c_str(),
              exported.step, names.c_str());
  return kExitDone;
}

}  // namespace

Command add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  std::vector<std::string> families;
  for (const HfFamily family : hf_families()) families.push_back(model_type_of(family));
  app.add_option("CHECKPOINT", options->checkpoint, "A checkpoint folder, or a run folder (its newest)")->required();
  app.add_option("--format", options->format, "hf: a Hugging Face folder for transformers")
      ->check(CLI::IsMember({"hf"}))
      ->capture_default_str();
  app.add_option("--family", options->family, "The family to write; by default the one that the model is of")
      ->check(CLI::IsMember(families));
  app.add_option("--out", options->out, "The folder to write; it must be new")->required();
  return [options] { return run_export(*options); };
}

}  // namespace switchyard
