// The commands and options as CLI11 has them declared, for what is made from these declarations: the man page and the
// completions of shells.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace switchyard {

struct OptionText {
  std::string name;       // "--steps"; of an argument without a name of its own the word for it, "CONFIG"
  std::string value;      // "INT:INT in [1 - 100000]"; "" of a flag
  std::string meaning;    // ends without a full stop
  std::string otherwise;  // what it is when not given; may be empty
  bool positional = false;
  bool required = false;
};

struct CommandText {
  std::string name;
  std::string description;
  std::vector<OptionText> options;  // in the order declared

  // Whether key=value may stand among its arguments.
  bool takes_overrides() const;
  // Whether one of its arguments is a configuration, and so may be preset:NAME.
  bool takes_config() const;
};

struct ProgramText {
  std::string name;
  std::string description;
  std::vector<OptionText> options;
  std::vector<CommandText> commands;  // without hidden ones
};

ProgramText program_text(const CLI::App& program);

// Every dotted key of a configuration that takes a value.
std::vector<std::string> config_keys();

// Each a whole file. The shells' ones offer commands, options, files, keys of overrides and presets.
std::string bash_completion(const ProgramText& program);
std::string zsh_completion(const ProgramText& program);
std::string fish_completion(const ProgramText& program);
// In the macros of man(7).
std::string man_page(const ProgramText& program);

}  // namespace switchyard
