#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "base/errors.h"
#include "base/text.h"
#include "cli/commands.h"
#include "config/load.h"
#include "train/trainer.h"

namespace switchyard {
namespace {

struct TrainOptions {
  std::vector<std::string> arguments;  // CONFIG and overrides, or overrides alone with --resume
  std::string resume;
  std::string from;
  ResumeOptions resume_options;
};

TrainOutcome train(TrainOptions& options) {
  if (!options.resume.empty()) {
    if (!options.from.empty()) throw ConfigError("--from is for a new run, not for --resume");
    if (!options.arguments.empty() && options.arguments.front().find('=') == std::string::npos) {
      throw ConfigError("--resume takes the configuration out of the run folder: leave out " +
                        in_quotes(options.arguments.front()) + ", and write what is to differ as key=value");
    }
    options.resume_options.overrides = options.arguments;
    return train_resume(options.resume, options.resume_options);
  }
  if (options.arguments.empty()) throw ConfigError("train needs a CONFIG file, or --resume RUN_DIR");
  const std::string config = options.arguments.front();
  if (std::filesystem::exists(std::filesystem::path(config) / "run.json")) {
    throw ConfigError(config + " is the folder of a run: to go on with it, train --resume " + config +
                      "; to start another one like it, train " + config + "/config.yaml run.dir=NEW");
  }
  options.arguments.erase(options.arguments.begin());
  return train_new(load_config(config, options.arguments), options.from);
}

}  // namespace

Command add_train(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  app.add_option("CONFIG", options->arguments, "A YAML file (not with --resume), then key=value overrides");
  app.add_option("--resume", options->resume, "Go on with this run folder, from its newest complete checkpoint");
  app.add_option("--from", options->from, "Start a new run with the weights of this checkpoint");
  app.add_flag("--allow-data-change", options->resume_options.allow_data_change,
               "Resume although the data gives other tokens than before");
  app.add_flag("--allow-architecture-change", options->resume_options.allow_architecture_change,
               "Resume with another architecture: tensors that fit are taken, others start anew");
  return [options] { return train(*options) == TrainOutcome::kStopped ? kExitStopped : kExitDone; };
}

}  // namespace switchyard
