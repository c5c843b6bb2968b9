// The values of an axis as a sweep file writes them.
#pragma once

#include <vector>

#include "config/yaml_tree.h"

namespace switchyard {

constexpr size_t kMostValues = 1000;

// From a list, or from a map with `values: [...]`, `range: {from, to, steps}` (evenly spaced) or `log_range: {from, to,
// steps}` (evenly spaced logarithms), and an optional `label`. Numbers of a range are rounded to six significant digits
// and are whole where both ends are and the value is. `dotted` names the axis in messages. Empty after a problem.
std::vector<YamlNode> read_axis_values(const YamlNode& node, const std::string& dotted, Problems& problems);

}  // namespace switchyard
