#include "ablate/axis_values.h"

#include <cmath>
#include <cstdlib>

#include "base/text.h"
#include "config/scalars.h"

namespace switchyard {
namespace {

const std::vector<std::string> kForms = {"values", "range", "log_range"};
const std::vector<std::string> kEnds = {"from", "to", "steps"};

struct Range {
  double from = 0;
  double to = 0;
  int64_t steps = 0;
  bool whole = false;  // both ends are written as whole numbers
};

std::string list_of(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

void report_unknown(const YamlEntry& entry, const std::string& dotted, const std::vector<std::string>& known,
                    Problems& problems) {
  const std::string near = nearest_word(entry.key.substr(0, 64), known);
  problems.add(entry.key_place,
               "key " + in_quotes(dotted + "." + entry.key) + " is not known here; " +
                   (near.empty() ? "known keys here: " + list_of(known) : "did you mean '" + near + "'?"));
}

bool read_ends(const YamlNode& node, const std::string& dotted, Range& range, Problems& problems) {
  if (!node.is_map()) {
    problems.add(node.place, "key '" + dotted + "' needs {from: A, to: B, steps: N}, found " + described(node));
    return false;
  }
  bool good = true;
  const auto complain = [&](const Place& place, const std::string& what) {
    problems.add(place, what);
    good = false;
  };
  range.whole = true;
  for (const YamlEntry& entry : node.entries) {
    const std::string key = dotted + "." + entry.key;
    std::string what;
    int64_t whole = 0;
    if (entry.key == "steps") {
      what = read_integer(entry.value, range.steps);
      if (what.empty()) what = range_problem(range.steps, IntegerRange{2, static_cast<int64_t>(kMostValues)});
    } else if (entry.key == "from" || entry.key == "to") {
      what = read_real(entry.value, entry.key == "from" ? range.from : range.to);
      range.whole = range.whole && read_integer(entry.value, whole).empty();
    } else {
      report_unknown(entry, dotted, kEnds, problems);
      good = false;
    }
    if (!what.empty()) complain(entry.value.place, "key '" + key + "' " + what);
  }
  for (const std::string& end : kEnds) {
    if (node.find(end) == nullptr) complain(node.place, "key '" + dotted + "." + end + "' is missing");
  }
  return good;
}

// Six significant digits: what a table shows is what is run.
std::string number_text(double value, bool whole) {
  const std::string text = formatted("%.6g", value);
  const double rounded = std::strtod(text.c_str(), nullptr);
  return whole && rounded == std::floor(rounded) ? formatted("%.0f", rounded) : text;
}

std::vector<YamlNode> range_values(const YamlNode& node, const std::string& dotted, bool logarithmic,
                                   Problems& problems) {
  Range range;
  if (!read_ends(node, dotted, range, problems)) return {};
  if (logarithmic && (range.from <= 0 || range.to <= 0)) {
    problems.add(node.place, "key '" + dotted +
                                 "' needs ends above 0, since it is spaced by logarithms; for a value of " +
                                 "0 write the values as a list");
    return {};
  }
  if (range.from == range.to) {
    problems.add(node.place, "key '" + dotted + "' has the same number at both ends");
    return {};
  }
  std::vector<YamlNode> values;
  for (int64_t i = 0; i < range.steps; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(range.steps - 1);
    const double value = logarithmic ? range.from * std::pow(range.to / range.from, share)
                                     : range.from + (range.to - range.from) * share;
    YamlNode scalar;
    scalar.kind = YamlNode::Kind::kScalar;
    scalar.text = number_text(value, range.whole);
    scalar.place = node.place;
    values.push_back(std::move(scalar));
  }
  return values;
}

std::vector<YamlNode> listed_values(const YamlNode& node, const std::string& dotted, Problems& problems) {
  if (!node.is_sequence() || node.items.empty() || node.items.size() > kMostValues) {
    problems.add(node.place,
                 "key '" + dotted + "' needs a list of 1 to " + std::to_string(kMostValues) + " values, or one of " +
                     list_of(kForms) + "; found " +
                     (node.is_sequence() ? std::to_string(node.items.size()) + " values" : described(node)));
    return {};
  }
  return node.items;
}

}  // namespace

std::vector<YamlNode> read_axis_values(const YamlNode& node, const std::string& dotted, Problems& problems) {
  if (!node.is_map()) return listed_values(node, dotted, problems);
  std::vector<YamlNode> values;
  int forms = 0;
  for (const YamlEntry& entry : node.entries) {
    const std::string key = dotted + "." + entry.key;
    if (entry.key == "label") continue;
    if (entry.key == "values") {
      values = listed_values(entry.value, key, problems);
    } else if (entry.key == "range" || entry.key == "log_range") {
      values = range_values(entry.value, key, entry.key == "log_range", problems);
    } else {
      report_unknown(entry, dotted, {"label", "values", "range", "log_range"}, problems);
    }
    ++forms;
  }
  if (forms == 1) return values;
  problems.add(node.place, "key '" + dotted + "' needs exactly one of " + joined_with_or(kForms));
  return {};
}

}  // namespace switchyard
