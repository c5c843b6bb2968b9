#include <algorithm>
#include <map>

#include "ablate/plan.h"
#include "base/errors.h"
#include "base/text.h"

namespace switchyard {
namespace {

constexpr size_t kMostSettings = 10000;
// Of bytes. Every setting holds its name and its values: one value of a megabyte would be thousands of them.
constexpr size_t kLongestName = 1000;

Setting setting_of(const Sweep& sweep, const std::vector<size_t>& choice) {
  Setting setting;
  for (size_t i = 0; i < sweep.axes.size(); ++i) {
    const Axis& axis = sweep.axes[i];
    const YamlNode& value = axis.values[choice[i]];
    const std::string text = flow_text(value);
    setting.label += (i == 0 ? "" : ", ") + axis.label + "=" + text;
    setting.values.push_back(text);
    if (setting.label.size() > kLongestName) {
      throw ConfigError(as_text(axis.key_place) + ": the values of 'axes." + axis.key + "' make names of more than " +
                        std::to_string(kLongestName) + " bytes; give long values under 'settings', with a short name");
    }
    setting.assignments.push_back({axis.key, axis.key_place, value});
  }
  return setting;
}

void expand_grid(const Sweep& sweep, std::vector<Setting>& settings) {
  std::vector<size_t> choice(sweep.axes.size(), 0);
  for (;;) {
    settings.push_back(setting_of(sweep, choice));
    size_t axis = choice.size();
    while (axis > 0 && choice[axis - 1] + 1 == sweep.axes[axis - 1].values.size()) choice[--axis] = 0;
    if (axis == 0) return;
    ++choice[axis - 1];
    if (settings.size() > kMostSettings) throw ConfigError(sweep.file + ": the axes make more than 10000 settings");
  }
}

void expand_paired(const Sweep& sweep, std::vector<Setting>& settings) {
  for (size_t i = 0; i < sweep.axes.front().values.size(); ++i) {
    settings.push_back(setting_of(sweep, std::vector<size_t>(sweep.axes.size(), i)));
  }
}

Setting named(const Sweep& sweep, const NamedSetting& named) {
  Setting setting{named.label, {}, named.assignments};
  for (const Axis& axis : sweep.axes) {
    const auto found = std::find_if(named.assignments.begin(), named.assignments.end(),
                                    [&](const Assignment& one) { return one.key == axis.key; });
    setting.values.push_back(found == named.assignments.end() ? "" : flow_text(found->value));
  }
  return setting;
}

}  // namespace

std::vector<Setting> expand_settings(const Sweep& sweep) {
  std::vector<Setting> settings;
  if (!sweep.axes.empty())
    sweep.mode == SweepMode::kPaired ? expand_paired(sweep, settings) : expand_grid(sweep, settings);
  for (const NamedSetting& one : sweep.settings) settings.push_back(named(sweep, one));
  std::map<std::string, int> seen;
  for (const Setting& setting : settings) {
    if (++seen[setting.label] > 1) {
      throw ConfigError(sweep.file + ": two settings are called " + in_quotes(setting.label) + "; rename one of them");
    }
  }
  return settings;
}

}  // namespace switchyard
