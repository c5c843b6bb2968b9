// The results of a sweep as files.
#pragma once

#include <string>

#include "ablate/results.h"
#include "base/json.h"

namespace switchyard {

// One row a run (RFC 4180): setting, seed, status, the axes, every measure, validation loss by domain, what it cost.
std::string results_csv(const Plan& plan, const Results& results);
// Everything: settings with mean and spread, runs, comparisons, Pareto fronts, the conclusion. Numbers that there are
// not are null.
OrderedJson results_json(const Plan& plan, const Results& results);
// A table with a row a setting, the conclusion above it, failed runs below.
std::string results_markdown(const Plan& plan, const Results& results);

OrderedJson comparison_json(const Plan& plan, const Comparison& comparison);
const char* state_name(RunState state);

// Writes results.csv, results.json, results.md and report.html into the sweep's folder. Throws Error.
void write_results(const Plan& plan, const Results& results);

}  // namespace switchyard
