// The HTML report of a sweep.
#pragma once

#include <string>

#include "ablate/results.h"

namespace switchyard {

// One self-contained page: the conclusion, a table of the settings, quality against balance with the Pareto front, each
// setting's seeds, curves per setting (mean, least and largest over seeds), failed runs, the sweep file. No network,
// light and dark, keyboard-usable, a few megabytes at most whatever the size of the sweep. Reads the finished runs'
// folders again. Throws Error.
std::string render_ablation(const Plan& plan, const Results& results);

}  // namespace switchyard
