#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/command_tree.h"
#include "cli/commands.h"

namespace switchyard {
namespace {

std::string text_for(const std::string& what, const ProgramText& program) {
  if (what == "bash") return bash_completion(program);
  if (what == "zsh") return zsh_completion(program);
  if (what == "fish") return fish_completion(program);
  return man_page(program);
}

}  // namespace

// Hidden: the installation calls it, and puts the files where shells and man look for them.
Command add_completions(CLI::App& app) {
  app.group("");
  auto what = std::make_shared<std::string>();
  app.add_option("WHAT", *what, "bash, zsh, fish or man")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish", "man"}));
  return [what, &app] {
    std::printf("%s", text_for(*what, program_text(*app.get_parent())).c_str());
    return kExitDone;
  };
}

}  // namespace switchyard
