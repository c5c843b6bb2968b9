// The subcommands of `switchyard`, one file each. Each function declares its options on `app` and returns what runs
// when the user chose it; that function returns the exit code.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace switchyard {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;     // the command line or the configuration is wrong
constexpr int kExitStopped = 75;  // stopped by a signal after saving

using Command = std::function<int()>;

Command add_train(CLI::App& app);
Command add_eval(CLI::App& app);
Command add_generate(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_plan(CLI::App& app);
Command add_place(CLI::App& app);
Command add_prepare(CLI::App& app);
Command add_tokenize(CLI::App& app);
Command add_ablate(CLI::App& app);
Command add_report(CLI::App& app);
Command add_bench(CLI::App& app);
Command add_export(CLI::App& app);
Command add_import(CLI::App& app);
Command add_config(CLI::App& app);
Command add_presets(CLI::App& app);
Command add_completions(CLI::App& app);
Command add_trace(CLI::App& app);
Command add_specialisation(CLI::App& app);
Command add_serve_report(CLI::App& app);

}  // namespace switchyard
