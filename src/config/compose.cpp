#include "config/compose.h"

#include <algorithm>
#include <charconv>

#include "base/errors.h"
#include "base/files.h"
#include "config/fields.h"
#include "config/presets.h"
#include "config/text_check.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

// The key that a plain word at the dotted key stands for ("moe.router": "type"), or "".
std::string shorthand_at(const Fields& fields, std::string_view dotted) {
  const size_t dot = std::min(dotted.find('.'), dotted.size());
  for (const Field& field : fields) {
    if (field.key != dotted.substr(0, dot)) {
      continue;
    }
    const auto* section = std::get_if<SectionValue>(&field.value);
    if (dot == dotted.size()) {
      return section == nullptr ? "" : section->shorthand;
    }
    const auto* optional = std::get_if<OptionalSectionValue>(&field.value);
    const std::string_view rest = dotted.substr(dot + 1);
    return section != nullptr ? shorthand_at(section->fields, rest)
                              : (optional != nullptr ? shorthand_at(optional->fields(), rest) : "");
  }
  return "";
}

// Makes `node` a map that keys can be added to. A plain word that stands for a key stays as that key.
void become_map(YamlNode& node, const std::string& dotted, const Place& place) {
  if (node.is_map()) {
    return;
  }
  YamlNode map;
  map.kind = YamlNode::Kind::kMap;
  map.place = place;
  if (node.is_scalar()) {
    Config config = config_with_every_section();
    const std::string shorthand = shorthand_at(fields_of(config), dotted);
    if (!shorthand.empty()) {
      map.entries.push_back({shorthand, node.place, std::move(node)});
    }
  }
  node = std::move(map);
}

void merge(YamlNode& base, YamlNode over, const std::string& dotted) {
  if (!over.is_map() || base.is_sequence() || base.is_null()) {
    base = std::move(over);
    return;
  }
  become_map(base, dotted, over.place);
  base.place = over.place;
  for (YamlEntry& entry : over.entries) {
    if (YamlEntry* known = base.find(entry.key)) {
      known->key_place = entry.key_place;
      merge(known->value, std::move(entry.value), dotted.empty() ? entry.key : dotted + "." + entry.key);
    } else {
      base.entries.push_back(std::move(entry));
    }
  }
}

// One file of the chain.
struct Link {
  std::shared_ptr<const SourceText> source;
  fs::path identity;  // the same for every way to name a file
  YamlNode tree;
};

YamlNode parse_file(const std::string& text, const std::shared_ptr<const SourceText>& source, Problems& problems) {
  std::optional<YamlNode> tree = parse_yaml(text, source, problems);
  if (!tree) {
    problems.throw_if_any();
  }
  if (tree->is_null()) {
    problems.add({source}, "the file is empty; it needs sections such as 'model:' or 'data:'");
    problems.throw_if_any();
  }
  if (!tree->is_map()) {
    problems.add(tree->place, "needs sections such as 'model:' at the top of the file, found " + described(*tree));
    problems.throw_if_any();
  }
  return std::move(*tree);
}

// Takes the `extends:` entry out of a file's tree. Its text is empty when there is none.
YamlNode take_extends(YamlNode& tree, Problems& problems) {
  YamlEntry* entry = tree.find("extends");
  if (entry == nullptr) {
    return {};
  }
  YamlNode value = std::move(entry->value);
  tree.entries.erase(tree.entries.begin() + (entry - tree.entries.data()));
  if (!value.is_null() && (!value.is_scalar() || value.text.empty() || value.text.find('\0') != std::string::npos)) {
    problems.add(value.place, "key 'extends' needs the name of a file, found " + described(value));
    problems.throw_if_any();
  }
  return value;
}

std::string chain_text(const std::vector<Link>& chain) {
  std::string result;
  for (const Link& link : chain) {
    result += (result.empty() ? "" : " extends ") + link.source->name;
  }
  return result;
}

// The file that `extends:` names, where it is and as messages show it.
std::pair<fs::path, std::string> extended_file(const YamlNode& extends, const SourceText& from, Problems& problems) {
  try {
    if (is_preset(extends.text)) {
      const fs::path path = preset_path(extends.text);
      return {path, path.string()};
    }
  } catch (const ConfigError& error) {
    problems.add(extends.place, "key 'extends': " + std::string(error.what()));
    problems.throw_if_any();
  }
  return {(from.folder / extends.text).lexically_normal(),
          (fs::path(from.name).parent_path() / extends.text).lexically_normal().string()};
}

Link load_extended(const YamlNode& extends, const std::vector<Link>& chain, Problems& problems) {
  const SourceText& from = *chain.back().source;
  const auto [path, name] = extended_file(extends, from, problems);
  std::error_code ignored;
  Link link{nullptr, fs::weakly_canonical(path, ignored), {}};
  const auto same = [&](const Link& other) { return other.identity == link.identity; };
  if (std::any_of(chain.begin(), chain.end(), same)) {
    problems.add(extends.place, "key 'extends' goes in a circle: " + chain_text(chain) + " extends " + name);
  } else if (static_cast<int>(chain.size()) >= kMostExtends) {
    problems.add(extends.place, "key 'extends' makes a chain of more than " + std::to_string(kMostExtends) + " files");
  }
  problems.throw_if_any();
  auto source = std::make_shared<SourceText>();
  *source = {name, path.parent_path(), false, static_cast<int>(chain.size())};
  link.source = source;
  try {
    link.tree = parse_file(read_file(path, kMostConfigBytes), source, problems);
  } catch (const ConfigError&) {
    throw;
  } catch (const Error& error) {
    problems.add(extends.place, "key 'extends': " + std::string(error.what()));
    problems.throw_if_any();
  }
  return link;
}

std::vector<std::string> split_at_dots(const std::string& dotted) {
  std::vector<std::string> parts(1);
  for (const char c : dotted) {
    c == '.' ? void(parts.emplace_back()) : void(parts.back() += c);
  }
  return parts;
}

// The item of a list that `part` names, or null after adding a problem.
YamlNode* item_at(YamlNode& list, const std::string& part, const std::string& dotted, const Place& place,
                  Problems& problems) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (error == std::errc() && end == part.data() + part.size() && index < list.items.size()) {
    return &list.items[index];
  }
  const std::string known =
      list.items.empty() ? "it is empty" : "its items are 0 to " + std::to_string(list.items.size() - 1);
  problems.add(place, "key '" + dotted + "' is a list without item " + in_quotes(part) + "; " + known);
  return nullptr;
}

}  // namespace

bool is_dotted_key(const std::string& text) {
  const std::vector<std::string> parts = split_at_dots(text);
  return parts.size() <= static_cast<size_t>(kMostNesting) && std::find(parts.begin(), parts.end(), "") == parts.end();
}

void lay_over(YamlNode& tree, const std::string& dotted, const Place& key_place, YamlNode value, Problems& problems) {
  YamlNode* node = &tree;
  std::string walked;
  for (const std::string& part : split_at_dots(dotted)) {
    if (node->is_sequence()) {
      node = item_at(*node, part, walked, key_place, problems);
      if (node == nullptr) {
        return;
      }
    } else {
      become_map(*node, walked, value.place);
      YamlEntry* entry = node->find(part);
      if (entry == nullptr) {
        node->entries.push_back({part, key_place, {}});
        node->entries.back().value.place = value.place;
        entry = &node->entries.back();
      }
      entry->key_place = key_place;
      node = &entry->value;
    }
    walked += (walked.empty() ? "" : ".") + part;
  }
  merge(*node, std::move(value), walked);
}

void apply_override(YamlNode& tree, const std::string& text, int order, Problems& problems) {
  auto source = std::make_shared<SourceText>();
  *source = {"override " + in_quotes(text), fs::current_path(), true, order};
  const size_t equals = text.find('=');
  const std::string dotted = text.substr(0, std::min(equals, text.size()));
  if (equals == std::string::npos || !is_dotted_key(dotted) || !check_text(dotted, source, problems)) {
    problems.add({source}, "needs the form key=value, with a key such as 'model.hidden_size'");
    return;
  }
  if (std::optional<YamlNode> value = parse_yaml(text.substr(equals + 1), source, problems)) {
    const Place place = value->place;
    lay_over(tree, dotted, place, std::move(*value), problems);
  }
}

YamlNode compose_tree(const std::string& text, const std::string& name, const fs::path& folder,
                      const std::vector<std::string>& overrides, Problems& problems) {
  auto source = std::make_shared<SourceText>();
  *source = {name, folder, false, 0};
  std::error_code ignored;
  std::vector<Link> chain;
  chain.push_back(
      {source, fs::weakly_canonical(folder / fs::path(name).filename(), ignored), parse_file(text, source, problems)});
  for (;;) {
    const YamlNode extends = take_extends(chain.back().tree, problems);
    if (extends.is_null()) {
      break;
    }
    chain.push_back(load_extended(extends, chain, problems));
  }
  YamlNode tree = std::move(chain.back().tree);
  for (auto link = chain.rbegin() + 1; link != chain.rend(); ++link) {
    merge(tree, std::move(link->tree), "");
  }
  int order = static_cast<int>(chain.size());
  for (const std::string& override_text : overrides) {
    apply_override(tree, override_text, order++, problems);
  }
  return tree;
}

}  // namespace switchyard
