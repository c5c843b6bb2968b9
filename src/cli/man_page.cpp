#include <initializer_list>
#include <string_view>

#include "cli/command_tree.h"
#include "cli/version.h"

namespace switchyard {
namespace {

using Parts = std::initializer_list<std::string_view>;

// One after the other. (GCC 12 takes chains of + for copies of negative length, and warns.)
std::string joined(Parts parts) {
  std::string result;
  for (const std::string_view part : parts) result.append(part);
  return result;
}

// Text as roff takes it literally: no escapes, hyphens that can be searched for, no line that looks like a request.
std::string roff(std::string_view text) {
  std::string result;
  if (text.starts_with('.') || text.starts_with('\'')) result.append("\\&");
  for (const char c : text) {
    if (c == '\\' || c == '-') result.push_back('\\');
    result.push_back(c == '\\' ? 'e' : c);
  }
  return result;
}

std::string bold(std::string_view text) { return joined({"\\fB", roff(text), "\\fR"}); }
std::string italic(std::string_view text) { return joined({"\\fI", roff(text), "\\fR"}); }

// "[--steps VALUE]"
std::string usage_of(const OptionText& option) {
  const bool valued = !option.positional && !option.value.empty();
  const std::string name = option.positional ? italic(option.name) : bold(option.name);
  return joined({option.required ? "" : "[", name, valued ? " \\fIVALUE\\fR" : "", option.required ? "" : "]"});
}

void add_options(const std::vector<OptionText>& options, std::string& page) {
  for (const OptionText& option : options) {
    const std::string value = option.positional ? "" : italic(option.value);
    page += joined({".TP\n", option.positional ? italic(option.name) : bold(option.name), " ", value, "\n"});
    page += joined({roff(option.meaning), "."});
    if (!option.otherwise.empty()) page += joined({" Default: ", roff(option.otherwise), "."});
    page += "\n";
  }
}

void add_command(const ProgramText& program, const CommandText& command, std::string& page) {
  page += joined({".SS ", roff(command.name), "\n", roff(command.description), ".\n.PP\n"});
  page += bold(joined({program.name, " ", command.name}));
  for (const OptionText& option : command.options) {
    if (option.name != "--help") page += joined({" ", usage_of(option)});
  }
  page += "\n";
  add_options(command.options, page);
}

constexpr const char* kRest = R"(.SH CONFIGURATIONS
A run is described by one YAML file; every key has a default, and one that is not known is an error.
\fBswitchyard config \-\-reference\fR prints a page of all keys, \fBswitchyard config \-\-schema\fR a JSON schema for editors.
.PP
\fIkey\fR=\fIvalue\fR on the command line overrides a key by its dotted name, as in \fBmoe.top_k=1\fR.
.PP
\fBextends:\fR \fIFILE\fR at the top of a file builds on another one, \fBextends: preset:\fINAME\fR on one that comes with
the program. \fBpreset:\fINAME\fR may also stand in place of a configuration on the command line.
\fBswitchyard presets\fR lists them.
.SH EXIT STATUS
.TP
0
Done.
.TP
1
Failed.
.TP
2
The command line or the configuration is wrong.
.TP
75
Stopped by a signal after saving; \fBswitchyard train \-\-resume\fR goes on.
.SH ENVIRONMENT
.TP
\fBSWITCHYARD_PRESETS\fR
The folder of the presets, in place of the one that was installed.
.SH FILES
Relative to the prefix that the program is installed under:
.TP
\fIshare/switchyard/configs\fR
The presets.
.TP
\fIshare/switchyard/switchyard.schema.json\fR
The JSON schema of a configuration.
.SH EXAMPLES
.EX
switchyard train preset:mixtral\-8x7b\-tiny run.dir=runs/first
switchyard train \-\-resume runs/first
switchyard generate runs/first \-\-prompt Once
switchyard report runs/first
.EE
)";

}  // namespace

std::string man_page(const ProgramText& program) {
  const std::string name = roff(program.name);
  std::string page = joined({".TH SWITCHYARD 1 \"\" \"switchyard ", program_version(), "\" \"User Commands\"\n"});
  page += joined({".SH NAME\n", name, " \\- train sparse mixture\\-of\\-experts transformers from a YAML file\n"});
  page += joined({".SH SYNOPSIS\n", bold(name), " \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n"});
  page += joined({".SH DESCRIPTION\n", roff(program.description), "\n.SH OPTIONS\n"});
  add_options(program.options, page);
  page += ".SH COMMANDS\n";
  for (const CommandText& command : program.commands) add_command(program, command, page);
  return page + kRest;
}

}  // namespace switchyard
