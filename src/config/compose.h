// A file, the files it extends and the overrides, put together into one tree of keys.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/yaml_tree.h"

namespace switchyard {

constexpr int kMostExtends = 8;  // files in a chain, the first one included

// Maps are merged key by key, everything else replaces what was there: the end of the `extends:` chain first, the text
// itself over it, then the overrides in order. Every node keeps the place it came from. The result is a map or null.
// Throws ConfigError when a text could not be read or is no YAML; adds lesser problems to `problems`.
YamlNode compose_tree(const std::string& text, const std::string& name, const std::filesystem::path& folder,
                      const std::vector<std::string>& overrides, Problems& problems);

// Whether `text` can name a key: words joined by dots, none of them empty.
bool is_dotted_key(const std::string& text);

// Lays `value` over the tree at a dotted key, as an override does. Messages about the key point at `key_place`, those
// about the value at its own place.
void lay_over(YamlNode& tree, const std::string& dotted, const Place& key_place, YamlNode value, Problems& problems);

// The same with a `key=value` of the command line; `order` is where its problems stand among those of other texts.
void apply_override(YamlNode& tree, const std::string& text, int order, Problems& problems);

// The checked and resolved configuration that a tree of keys makes. Throws ConfigError with everything in `problems`.
Config config_of_tree(const YamlNode& tree, Problems& problems);

}  // namespace switchyard
