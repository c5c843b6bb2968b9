// What a sweep runs: every setting with every seed, each a checked configuration.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ablate/sweep.h"
#include "config/config.h"

namespace switchyard {

// One way to set the keys that a sweep varies.
struct Setting {
  std::string label;                // "aux_loss_coeff=0.01, top_k=2", or a name from the sweep file
  std::vector<std::string> values;  // per axis; "" where a named setting says nothing about it
  std::vector<Assignment> assignments;
};

struct PlannedRun {
  std::string name;  // of its folder
  size_t setting = 0;
  int64_t seed = 0;
  Config config;  // resolved; run.dir is <sweep>/runs/<name>
  int64_t tokens = 0;
  double flops = 0;   // of the whole training
  double memory = 0;  // bytes that its process is expected to hold
};

struct Plan {
  std::string title;
  std::string sweep_text;
  std::filesystem::path folder;
  std::vector<std::string> axes;         // dotted keys
  std::vector<std::string> axis_labels;  // as many
  std::vector<Setting> settings;
  size_t baseline = 0;  // index of a setting
  std::vector<int64_t> seeds;
  std::vector<PlannedRun> runs;  // seed by seed, so that every setting has a first result early
};

// The settings of a sweep in their order: those of the axes (the last axis changes fastest), then the named ones.
std::vector<Setting> expand_settings(const Sweep& sweep);

// Where the sweep writes: run.dir among the overrides, else what the file says.
std::filesystem::path sweep_folder(const Sweep& sweep, std::vector<std::string> overrides);

// `overrides` (key=value) hold in every run; run.dir among them is the sweep's folder, and run.seed its only seed.
// `threads`: of a run whose configuration leaves training.num_threads at 0; 0 stands for the machine's cores shared out
// over all runs, at least one each. Throws ConfigError with every problem of every configuration.
Plan make_plan(const Sweep& sweep, const std::vector<std::string>& overrides, int64_t threads = 0);

}  // namespace switchyard
