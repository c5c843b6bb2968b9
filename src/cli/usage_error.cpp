#include "cli/usage_error.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/text.h"

namespace switchyard {
namespace {

std::string unknown_option(const CLI::App& command, const std::string& word) {
  const std::string given = word.substr(0, word.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::string near = nearest_word(given.substr(0, 64), names);
  return command.get_name() + " has no option " + in_quotes(given) +
         (near.empty() ? "; switchyard " + command.get_name() + " --help lists them"
                       : "; did you mean '" + near + "'?");
}

// "DIR (a folder) and --out (a file)".
std::string missing_arguments(const CLI::App& command) {
  std::string text;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_required() || option->count() > 0) continue;
    text += (text.empty() ? "" : " and ") + option->get_name(option->get_positional()) + " (" +
            option->get_description() + ")";
  }
  return text;
}

}  // namespace

std::string usage_error(const CLI::App& command, const CLI::ParseError& error) {
  const std::vector<std::string> left = command.remaining();
  const auto option = std::find_if(left.begin(), left.end(),
                                   [](const std::string& word) { return word.starts_with('-') && word != "--"; });
  if (option != left.end()) return unknown_option(command, *option);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    return command.get_name() + " needs " + missing_arguments(command);
  }
  if (!left.empty()) return command.get_name() + " has no use for " + in_quotes(left.front());
  return command.get_name() + ": " + error.what();
}

}  // namespace switchyard
