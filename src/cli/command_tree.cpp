#include "cli/command_tree.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "config/fields.h"

namespace switchyard {
namespace {

OptionText option_text(const CLI::Option& option) {
  OptionText text;
  text.positional = option.get_positional();
  text.name =
      text.positional || option.get_lnames().empty() ? option.get_name(true) : "--" + option.get_lnames().front();
  if (option.get_items_expected_max() > 0) text.value = option.get_type_name();
  text.meaning = option.get_description();
  text.otherwise = option.get_default_str();
  text.required = option.get_required();
  return text;
}

std::vector<OptionText> options_of(const CLI::App& app) {
  std::vector<OptionText> options;
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_group().empty()) options.push_back(option_text(*option));
  }
  return options;
}

void add_keys(const Fields& fields, const std::string& prefix, std::vector<std::string>& keys) {
  for (const Field& field : fields) {
    const std::string key = prefix + field.key;
    if (const auto* section = std::get_if<SectionValue>(&field.value)) {
      add_keys(section->fields, key + ".", keys);
    } else if (const auto* optional = std::get_if<OptionalSectionValue>(&field.value)) {
      add_keys(optional->fields(), key + ".", keys);
    } else if (const auto* list = std::get_if<SectionListValue>(&field.value)) {
      add_keys(list->fields(0), key + ".0.", keys);
    } else {
      keys.push_back(key);
    }
  }
}

bool has_option(const CommandText& command, const std::vector<std::string>& names) {
  return std::any_of(command.options.begin(), command.options.end(), [&](const OptionText& option) {
    return std::find(names.begin(), names.end(), option.name) != names.end();
  });
}

}  // namespace

// `train` takes overrides after its CONFIG, `specialisation` after its checkpoints, as one list.
bool CommandText::takes_overrides() const {
  return has_option(*this, {"OVERRIDES"}) || name == "train" || name == "specialisation";
}

bool CommandText::takes_config() const { return has_option(*this, {"CONFIG", "PATH", "SWEEP"}); }

ProgramText program_text(const CLI::App& program) {
  ProgramText text{program.get_name(), program.get_description(), options_of(program), {}};
  const auto shown = [](const CLI::App* app) { return !app->get_group().empty(); };
  for (const CLI::App* command : program.get_subcommands(shown)) {
    text.commands.push_back({command->get_name(), command->get_description(), options_of(*command)});
  }
  return text;
}

std::vector<std::string> config_keys() {
  Config config = config_with_every_section();
  std::vector<std::string> keys;
  add_keys(fields_of(config), "", keys);
  return keys;
}

}  // namespace switchyard
