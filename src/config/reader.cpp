#include "config/reader.h"

#include <algorithm>

#include "base/text.h"
#include "config/other_names.h"
#include "config/scalars.h"
#include "config/texts.h"

namespace switchyard {
namespace {

std::vector<std::string> keys_of(const Fields& fields) {
  std::vector<std::string> keys;
  for (const Field& field : fields) {
    keys.push_back(field.key);
  }
  return keys;
}

// Every dotted key whose last word is `word`: a key written one section too high, or in the wrong one.
void find_elsewhere(const Fields& fields, const std::string& path, std::string_view word,
                    std::vector<std::string>& found) {
  for (const Field& field : fields) {
    const std::string dotted = path + field.key;
    if (field.key == word) {
      found.push_back(dotted);
    }
    if (const auto* section = std::get_if<SectionValue>(&field.value)) {
      find_elsewhere(section->fields, dotted + ".", word, found);
    } else if (const auto* optional = std::get_if<OptionalSectionValue>(&field.value)) {
      find_elsewhere(optional->fields(), dotted + ".", word, found);
    }
  }
}

class Reader {
 public:
  Reader(Problems& problems, Readings& readings) : problems_(problems), readings_(readings) {}

  void read_section(const YamlNode& node, Fields& fields, const std::string& path) {
    for (const YamlEntry& entry : node.entries) {
      const auto field = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.key == entry.key; });
      if (field == fields.end()) {
        report_unknown(entry, fields, path);
      } else {
        read_field(entry.value, *field, path + field->key);
      }
    }
    for (const Field& field : fields) {
      // A misspelt key has been reported with this one as the likely meaning.
      const bool reported = readings_.bad.contains(path + field.key);
      if (field.required && !reported && node.find(field.key) == nullptr) {
        problem(node.place, path + field.key, "is missing");
      }
    }
  }

 private:
  void problem(const Place& place, const std::string& dotted, const std::string& what) {
    problems_.add(place, "key '" + dotted + "' " + what);
    readings_.bad.insert(dotted);
  }

  void report_unknown(const YamlEntry& entry, const Fields& fields, const std::string& path) {
    const std::string near = entry.key.size() <= 64 ? nearest_word(entry.key, keys_of(fields)) : "";
    std::string hint = "known keys here: " + known_keys(fields);
    if (path.empty() && entry.key == "extends") {
      hint = "'extends' stands at the top of a file";
    } else if (std::string key = key_called(entry.key); !key.empty()) {
      hint = "did you mean '" + key + "'?";
      readings_.bad.insert(std::move(key));
    } else if (!near.empty()) {
      hint = "did you mean '" + near + "'?";
      readings_.bad.insert(path + near);
    } else if (std::string elsewhere = place_elsewhere(entry.key); !elsewhere.empty()) {
      hint = "did you mean '" + elsewhere + "'?";
      readings_.bad.insert(std::move(elsewhere));
    }
    problems_.add(entry.key_place, "key " + in_quotes(path + entry.key) + " is not known here; " + hint);
  }

  static std::string known_keys(const Fields& fields) {
    std::string result;
    for (const Field& field : fields) {
      result += (result.empty() ? "" : ", ") + field.key;
    }
    return result;
  }

  static std::string place_elsewhere(std::string_view word) {
    Config config = config_with_every_section();
    std::vector<std::string> found;
    find_elsewhere(fields_of(config), "", word, found);
    return found.size() == 1 ? found.front() : "";
  }

  void read_field(const YamlNode& node, Field& field, const std::string& dotted) {
    readings_.places[dotted] = node.place;
    if (node.is_sequence()) {
      readings_.lists.insert(dotted);
    }
    const std::string what = std::visit([&](auto& value) { return read(node, value, dotted); }, field.value);
    if (!what.empty()) {
      problem(node.place, dotted, what);
    }
  }

  // Each read() returns what is wrong, or "". Sections report their own keys.

  template <class T, class Range>
  std::string read_number(const YamlNode& node, const NumberTarget<T>& target, const Range& range,
                          std::string (*parse)(const YamlNode&, T&)) {
    const auto leave_open = Overloaded{[](T*) {}, [](auto* open) { *open = std::nullopt; }};
    if (node.is_null() && !std::holds_alternative<T*>(target)) {
      std::visit(leave_open, target);
      return "";
    }
    T value{};
    std::string what = parse(node, value);
    what = what.empty() ? range_problem(value, range) : what;
    if (what.empty()) std::visit([&](auto* place) { *place = value; }, target);
    return what;
  }

  std::string read(const YamlNode& node, IntegerValue& value, const std::string&) {
    return read_number(node, value.target, value.range, read_integer);
  }
  std::string read(const YamlNode& node, RealValue& value, const std::string&) {
    return read_number(node, value.target, value.range, read_real);
  }
  std::string read(const YamlNode& node, FlagValue& value, const std::string&) {
    return read_flag(node, *value.target);
  }

  std::string read(const YamlNode& node, TextValue& value, const std::string&) {
    return read_text(node, value.rule, *value.target);
  }

  std::string read(const YamlNode& node, ChoiceValue& value, const std::string&) {
    const auto name = std::find(value.names.begin(), value.names.end(), node.text);
    if (node.is_scalar() && name != value.names.end()) {
      value.set(static_cast<size_t>(name - value.names.begin()));
      return "";
    }
    const std::string near = node.text.size() <= 64 ? nearest_word(node.text, value.names) : "";
    return "needs " + joined_with_or(value.names) + ", found " + described(node) +
           (near.empty() ? "" : "; did you mean '" + near + "'?");
  }

  std::string read(const YamlNode& node, LayerListValue& value, const std::string& dotted) {
    constexpr IntegerRange kEvery = {1, int64_t{1} << 14};
    constexpr IntegerRange kSwitch = {0, 1};
    if (!node.is_sequence()) {
      std::vector<int64_t> every(1);
      std::string what = node.is_scalar() ? read_integer(node, every[0])
                                          : "needs a whole number or a list of 0 and 1, found " + described(node);
      what = what.empty() ? range_problem(every[0], kEvery) : what;
      if (what.empty()) {
        *value.target = every;
      }
      return what;
    }
    std::vector<int64_t> layers(node.items.size());
    for (size_t i = 0; i < layers.size(); ++i) {
      std::string what = read_integer(node.items[i], layers[i]);
      what = what.empty() ? range_problem(layers[i], kSwitch) : what;
      if (!what.empty()) {
        problem(node.items[i].place, dotted + "." + std::to_string(i), what);
        readings_.bad.insert(dotted);
      }
    }
    if (layers.empty()) {
      return "is an empty list; it needs a 0 or 1 for each layer";
    }
    *value.target = layers;
    return "";
  }

  std::string read(const YamlNode& node, GlobListValue& value, const std::string& dotted) {
    if (!node.is_sequence()) {
      return "needs a list of globs, found " + described(node) +
             (node.is_scalar() ? "; write it as a list in brackets" : "");
    }
    if (node.items.empty()) {
      return "is an empty list; it needs at least one glob";
    }
    value.target->clear();
    for (size_t i = 0; i < node.items.size(); ++i) {
      const YamlNode& item = node.items[i];
      std::string glob;
      std::string what = read_text(item, TextRule::kAny, glob);
      what = what.empty() ? make_absolute(glob, item.place) : what;
      if (!what.empty()) {
        problem(item.place, dotted + "." + std::to_string(i), what);
      }
      value.target->push_back(std::move(glob));
    }
    return "";
  }

  std::string read(const YamlNode& node, SectionValue& value, const std::string& dotted) {
    if (node.is_scalar() && !value.shorthand.empty()) {
      YamlNode map;
      map.kind = YamlNode::Kind::kMap;
      map.place = node.place;
      map.entries.push_back({value.shorthand, node.place, node});
      read_section(map, value.fields, dotted + ".");
      return "";
    }
    if (!node.is_map() && !node.is_null()) {
      return (value.shorthand.empty() ? "needs a map of keys, found " : "needs a name or a map of keys, found ") +
             described(node);
    }
    read_section(node, value.fields, dotted + ".");
    return "";
  }

  std::string read(const YamlNode& node, OptionalSectionValue& value, const std::string& dotted) {
    value.set_given(node.is_map());
    if (node.is_map()) {
      Fields fields = value.fields();
      read_section(node, fields, dotted + ".");
    }
    return node.is_map() || node.is_null() ? "" : "needs a map of keys or null, found " + described(node);
  }

  std::string read(const YamlNode& node, SectionListValue& value, const std::string& dotted) {
    if (!node.is_sequence() && !node.is_null()) {
      return "needs a list of maps, found " + described(node);
    }
    value.resize(node.items.size());
    for (size_t i = 0; i < node.items.size(); ++i) {
      const YamlNode& item = node.items[i];
      const std::string path = dotted + "." + std::to_string(i);
      readings_.places[path] = item.place;
      if (item.is_map()) {
        Fields fields = value.fields(i);
        read_section(item, fields, path + ".");
      } else {
        problem(item.place, path, "needs a map of keys, found " + described(item));
        readings_.bad.insert(dotted);
      }
    }
    return "";
  }

  Problems& problems_;
  Readings& readings_;
};

}  // namespace

Readings read_fields(const YamlNode& root, Fields& fields, Problems& problems) {
  Readings readings;
  Reader reader(problems, readings);
  reader.read_section(root, fields, "");
  return readings;
}

}  // namespace switchyard
