// Checks of numbers on the command line.
#pragma once

#include <CLI/CLI.hpp>

namespace switchyard {

// A number from `low` to `high`, both included, or 0 where `or_zero`. Unlike CLI::Range it refuses NaN.
CLI::Validator number_between(double low, double high, bool or_zero = false);

}  // namespace switchyard
