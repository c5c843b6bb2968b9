// switchyard: parses the command line, runs one subcommand, turns errors into exit codes.
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <map>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/logging.h"
#include "base/standard_streams.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/usage_error.h"
#include "cli/version.h"

namespace {

using namespace switchyard;

struct Entry {
  const char* name;
  const char* description;
  Command (*add)(CLI::App&);
};

constexpr Entry kCommands[] = {
    {"train", "Train a model from a config, or go on with a run", add_train},
    {"eval", "Validation loss and perplexity of a checkpoint, per domain", add_eval},
    {"generate", "Continue a text", add_generate},
    {"inspect", "Parameters, memory and FLOPs of a config or checkpoint, nothing allocated", add_inspect},
    {"plan", "Memory, bytes and time of a config on many ranks, for every layout", add_plan},
    {"place", "Put experts that a trace shows chosen together on one rank, in a checkpoint", add_place},
    {"prepare", "Train the tokenizer and write the token shards of a config", add_prepare},
    {"tokenize", "Lines of text to lines of token ids, or back", add_tokenize},
    {"ablate", "Run a sweep of settings and seeds, and compare them", add_ablate},
    {"report", "One HTML file with the curves and routing pictures of runs", add_report},
    {"trace", "Which experts each token of a text or of the validation data goes to", add_trace},
    {"specialisation", "Whether experts specialise: a score, heat maps and coloured text, by domain and more",
     add_specialisation},
    {"serve-report", "What a model's routing means for serving it: batches of 1 to 256, single domain against mixed",
     add_serve_report},
    {"bench", "Speed of the training step, against this machine's own matrix products", add_bench},
    {"export", "Write a checkpoint as a Hugging Face folder", add_export},
    {"import", "Make a checkpoint of a Hugging Face folder", add_import},
    {"config", "The resolved config, or the JSON schema of all keys", add_config},
    {"presets", "The ready-made configs that preset:NAME stands for", add_presets},
    {"completions", "Completions of a shell, or the man page", add_completions},
};

// CLI11 would only say that a subcommand is required.
void check_first_word(const std::string& word) {
  std::vector<std::string> names = {"--help", "--version", "-h"};
  for (const Entry& entry : kCommands) names.push_back(entry.name);
  if (std::find(names.begin(), names.end(), word) != names.end()) return;
  const std::string near = nearest_word(word.substr(0, 64), names);
  throw ConfigError((word.starts_with('-') ? "there is no option " : "there is no command ") + in_quotes(word) +
                    (near.empty() ? "; switchyard --help lists them" : "; did you mean '" + near + "'?"));
}

int run(int argc, char** argv) {
  if (argc > 1) check_first_word(argv[1]);
  CLI::App app("Switchyard: trains sparse mixture-of-experts transformers from a YAML file.", "switchyard");
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text,
                       "Print version, commit, LibTorch, processor variants and CUDA or not");
  std::map<const CLI::App*, Command> commands;
  for (const Entry& entry : kCommands) {
    CLI::App* sub = app.add_subcommand(entry.name, entry.description);
    commands[sub] = entry.add(*sub);
  }
  if (argc <= 1) {
    std::fputs(app.help().c_str(), stderr);
    return kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& shows) {  // --help, --version
    return app.exit(shows);
  } catch (const CLI::ParseError& error) {
    throw ConfigError(usage_error(app.get_subcommands().empty() ? app : *app.get_subcommands().front(), error));
  }
  return commands.at(app.get_subcommands().front())();
}

// What the user is told of an error: what LibTorch says without its stack frames, and not without end.
std::string told(std::string message) {
  constexpr size_t kLongest = 32000;
  for (const char* frames : {"\nException raised from ", "\nframe #0"})
    message = message.substr(0, message.find(frames));
  if (message.find("can't allocate memory") != std::string::npos || message.find("std::bad_alloc") == 0) {
    const size_t tried = message.find("you tried to allocate");
    message = "out of memory" + (tried == std::string::npos ? "" : ": " + message.substr(tried));
  }
  if (message.size() > kLongest) message = message.substr(0, kLongest) + "...";
  return printable(message);
}

// torchrun shows what a failed rank leaves here.
void write_torchrun_error(const std::string& message) {
  const char* path = std::getenv("TORCHELASTIC_ERROR_FILE");
  if (path == nullptr || *path == '\0') return;
  const Json error = {{"message", {{"message", message}, {"extraInfo", {{"timestamp", std::time(nullptr)}}}}}};
  std::ofstream(path) << error.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// A step frees and allocates the same large tensors as the one before. By default their memory goes back to the system
// each time, and comes again page by page, cleared.
void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kLarge = 1 << 30;
  ::mallopt(M_MMAP_THRESHOLD, kLarge);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#ifdef MADV_HUGEPAGE
  // The next gigabyte of the heap, of which nothing is used yet, in large pages: a step goes through all of its memory,
  // and looking up small pages costs some 3 % of it.
  if (void* room = std::malloc(kLarge - (1 << 20)); room != nullptr) {
    constexpr uintptr_t kPage = 2 << 20;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(room) + kPage - 1) / kPage * kPage;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(room) + kLarge - (1 << 20)) / kPage * kPage;
    std::free(room);
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  }
#endif
#endif
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_descriptors();
  keep_freed_memory();
  switchyard::start_logging();
  name_unreadable_maps();
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit then fails the write, and is reported like a full disk
  std::signal(SIGPIPE, SIG_IGN);  // so does a reader that is gone; a run goes on without it
  try {
    const int code = run(argc, argv);
    if (code == kExitDone) flush_standard_output();
    return code;
  } catch (const ConfigError& error) {
    const std::string message = told(error.what());
    write_torchrun_error(message);
    std::fprintf(stderr, "switchyard: %s\n", message.c_str());
    return kExitUsage;
  } catch (const DistributedError& error) {
    const std::string message = told(error.what());
    write_torchrun_error(message);
    log_error(message);
    // The engines' threads may wait for ranks that are gone; nothing is left to be written.
    std::fflush(nullptr);
    ::_exit(kExitFailed);
  } catch (const std::exception& error) {
    const std::string message = told(error.what());
    write_torchrun_error(message);
    // Goes to the run's log.txt as well, where there is one.
    log_error(message);
    return kExitFailed;
  }
}
