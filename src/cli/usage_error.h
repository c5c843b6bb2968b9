// What is wrong with a command line, and what would be right: CLI11 says the first half only.
#pragma once

#include <string>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace switchyard {

// One sentence about `error`, which parsing the arguments of the subcommand `command` ended with.
std::string usage_error(const CLI::App& command, const CLI::ParseError& error);

}  // namespace switchyard
