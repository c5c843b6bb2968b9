#include <algorithm>

#include "base/text.h"
#include "cli/command_tree.h"

namespace switchyard {
namespace {

// 'text' for all three shells, which agree on single quotes but for how to write one inside.
std::string quoted(const std::string& text, const std::string& quote = "'\\''") {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? quote : std::string(1, c);
  return result + "'";
}

std::string joined(const std::vector<std::string>& words, const std::string& between) {
  std::string result;
  for (const std::string& word : words) result += (result.empty() ? "" : between) + word;
  return result;
}

std::vector<std::string> keys_with_equals() {
  std::vector<std::string> keys = config_keys();
  for (std::string& key : keys) key += "=";
  return keys;
}

std::vector<std::string> flags_of(const std::vector<OptionText>& options) {
  std::vector<std::string> flags;
  for (const OptionText& option : options) {
    if (!option.positional) flags.push_back(option.name);
  }
  return flags;
}

std::vector<std::string> command_names(const ProgramText& program, const auto& chosen) {
  std::vector<std::string> names;
  for (const CommandText& command : program.commands) {
    if (chosen(command)) names.push_back(command.name);
  }
  return names;
}

std::string replaced(std::string text, const std::vector<std::pair<std::string, std::string>>& words) {
  for (const auto& [from, to] : words) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  }
  return text;
}

const auto takes_config = [](const CommandText& command) { return command.takes_config(); };
const auto takes_overrides = [](const CommandText& command) { return command.takes_overrides(); };
const auto every_command = [](const CommandText&) { return true; };

// The word is taken from the line, for bash splits it at = and : (COMP_WORDBREAKS), and replaces the last part alone.
constexpr const char* kBash = R"sh(# bash completion of switchyard, made from its option declarations
_switchyard() {
  local line=${COMP_LINE:0:COMP_POINT} word command=${COMP_WORDS[1]} flags="" before
  word=${line##*[[:space:]]}
  if ((COMP_CWORD <= 1)); then
    COMPREPLY=($(compgen -W "@COMMANDS@ @PROGRAM_FLAGS@" -- "$word"))
    return
  fi
  case $command in
@FLAGS@  esac
  COMPREPLY=()
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
    return
  fi
  if [[ " @WITH_CONFIG@ " == *" $command "* ]]; then
    if [[ $word == preset:* ]]; then
      COMPREPLY+=($(compgen -P preset: -W "$(switchyard presets --names 2>/dev/null)" -- "${word#preset:}"))
    elif [[ -n $word && preset: == "$word"* ]]; then
      COMPREPLY+=(preset:)
      compopt -o nospace
    fi
  fi
  if [[ -n $word && $word != *=* && " @WITH_OVERRIDES@ " == *" $command "* ]]; then
    COMPREPLY+=($(compgen -W "@KEYS@" -- "$word"))
    if [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
  fi
  before=${word%"${word##*[=:]}"}
  if [[ -n $before && $COMP_WORDBREAKS == *[=:]* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
  fi
}
complete -o default -F _switchyard switchyard
)sh";

constexpr const char* kZsh = R"sh(#compdef switchyard
# zsh completion of switchyard, made from its option declarations
_switchyard_keys() {
  local -a keys
  keys=(@KEYS@)
  compadd -S '' -- $keys
}
_switchyard_presets() {
  if compset -P preset:; then
    local -a names
    names=(${(f)"$(switchyard presets --names 2>/dev/null)"})
    compadd -- $names
  else
    compadd -S '' -- preset:
  fi
}
_switchyard_config() {
  _switchyard_presets
  _files
}
_switchyard_override() {
  if [[ -n $PREFIX ]]; then _switchyard_keys; fi
  _files
}
_switchyard_both() {
  if [[ -n $PREFIX && $PREFIX != preset:* ]]; then _switchyard_keys; fi
  _switchyard_config
}
_switchyard() {
  local curcontext=$curcontext state line
  local -a commands
  commands=(
@COMMANDS@  )
  _arguments -C @PROGRAM_FLAGS@ '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe -t commands command commands ;;
    argument)
      case $line[1] in
@FLAGS@      esac ;;
  esac
}
if [[ $funcstack[1] == _switchyard ]]; then _switchyard "$@"; else compdef _switchyard switchyard; fi
)sh";

constexpr const char* kFish = R"sh(# fish completion of switchyard, made from its option declarations
function __switchyard_presets
    switchyard presets --names 2>/dev/null | string replace -r '^' preset:
end
)sh";

// What zsh's _arguments takes for one option: '--steps[Timed steps]:value:_files'.
std::string zsh_option(const OptionText& option) {
  const std::string meaning = replaced(option.meaning, {{"[", "("}, {"]", ")"}, {":", "\\:"}});
  return quoted(option.name + "[" + meaning + "]" + (option.value.empty() ? "" : ":value:_files"));
}

std::string zsh_options(const std::vector<OptionText>& options) {
  std::vector<std::string> words;
  for (const OptionText& option : options) {
    if (!option.positional) words.push_back(zsh_option(option));
  }
  return joined(words, " ");
}

std::string zsh_arguments(const CommandText& command) {
  if (!command.takes_config()) return command.takes_overrides() ? "_switchyard_override" : "_files";
  return command.takes_overrides() ? "_switchyard_both" : "_switchyard_config";
}

std::string fish_option(const std::string& condition, const OptionText& option) {
  std::string line = "complete -c switchyard" + condition + " -l " + option.name.substr(2);
  if (!option.value.empty()) line += " -r";
  return line + " -d " + quoted(option.meaning, "\\'") + "\n";
}

}  // namespace

std::string bash_completion(const ProgramText& program) {
  std::string flags;
  for (const CommandText& command : program.commands) {
    flags += "    " + command.name + ") flags=" + quoted(joined(flags_of(command.options), " ")) + " ;;\n";
  }
  return replaced(kBash, {{"@COMMANDS@", joined(command_names(program, every_command), " ")},
                          {"@PROGRAM_FLAGS@", joined(flags_of(program.options), " ")},
                          {"@FLAGS@", flags},
                          {"@WITH_CONFIG@", joined(command_names(program, takes_config), " ")},
                          {"@WITH_OVERRIDES@", joined(command_names(program, takes_overrides), " ")},
                          {"@KEYS@", joined(keys_with_equals(), " ")}});
}

std::string zsh_completion(const ProgramText& program) {
  std::string commands;
  std::string flags;
  for (const CommandText& command : program.commands) {
    commands += "    " + quoted(command.name + ":" + command.description) + "\n";
    flags += "        " + command.name + ") _arguments " + zsh_options(command.options) + " " +
             quoted("*:argument:" + zsh_arguments(command)) + " ;;\n";
  }
  return replaced(kZsh, {{"@COMMANDS@", commands},
                         {"@PROGRAM_FLAGS@", zsh_options(program.options)},
                         {"@FLAGS@", flags},
                         {"@KEYS@", joined(keys_with_equals(), " ")}});
}

std::string fish_completion(const ProgramText& program) {
  std::string text = kFish;
  for (const OptionText& option : program.options) text += fish_option(" -n __fish_use_subcommand", option);
  for (const CommandText& command : program.commands) {
    const std::string within = " -n '__fish_seen_subcommand_from " + command.name + "'";
    text += "complete -c switchyard -n __fish_use_subcommand -f -a " + command.name + " -d " +
            quoted(command.description, "\\'") + "\n";
    for (const OptionText& option : command.options) {
      if (!option.positional) text += fish_option(within, option);
    }
  }
  const auto within = [&](const auto& chosen) {
    return "complete -c switchyard -n '__fish_seen_subcommand_from " + joined(command_names(program, chosen), " ") +
           "' -a ";
  };
  text += within(takes_config) + "'(__switchyard_presets)' -d preset\n";
  return text + within(takes_overrides) + quoted(joined(keys_with_equals(), " ")) + " -d key\n";
}

}  // namespace switchyard
