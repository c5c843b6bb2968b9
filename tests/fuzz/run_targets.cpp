// What runs and launchers leave: metrics, routing traces, the state of a sweep, environment variables.
#include <algorithm>
#include <map>
#include <numeric>

#include "ablate/sweep_store.h"
#include "base/errors.h"
#include "metrics/jsonl.h"
#include "metrics/report.h"
#include "metrics/routing_trace.h"
#include "metrics/run_metrics.h"
#include "parallel/launch.h"
#include "tests/fuzz/target.h"
#include "tests/support/sample_run.h"

namespace switchyard::fuzz {
namespace {

void check_table(const Table& table) {
  const auto steps = table.step;
  require(std::adjacent_find(steps.begin(), steps.end(), std::greater_equal<>()) == steps.end(), "steps ascend");
  for (const auto& [name, column] : table.columns)
    require(column.size() == steps.size(), "a column is as long as steps");
}

void check_run(const RunMetrics& run) {
  check_table(run.train);
  check_table(run.eval);
  for (const auto& [name, table] : run.domains) check_table(table);
  for (const auto& [index, layer] : run.layers) {
    check_table(layer.table);
    check_table(layer.probe);
    require(layer.load.size() == layer.table.step.size(), "a layer has its load at every step");
  }
}

// What the page is made of besides the data.
int64_t count_tags(const std::string& page) { return std::count(page.begin(), page.end(), '<'); }

void check_report(const std::filesystem::path& folder) {
  static const int64_t tags =
      count_tags(render_report({test::write_sample_run(scratch("page"), {.name = "sample", .steps = 20})}));
  require(count_tags(render_report({folder})) == tags, "nothing of the data is markup");
}

// A run that goes on at step 5 leaves whole lines of earlier steps, and its own.
void check_resuming(const std::filesystem::path& file) {
  std::filesystem::remove(file.string() + ".broken");
  JsonlWriter(file, 5).write({{"event", "end"}});
  const std::vector<Json> lines = read_jsonl(file);
  require(!lines.empty() && is_event(lines.back(), "end"), "a line that was written is there");
  for (const Json& line : lines) {
    require(line.is_object(), "every line is an object");
    const auto step = line.find("step");
    const bool later = step != line.end() && step->is_number() && step->get<double>() > 5;
    require(!later, "no line is of a later step");
  }
}

void run_metrics(std::string_view input) {
  static const std::filesystem::path folder = scratch("metrics");
  test::spill(folder / "metrics.jsonl", input);
  RunMetrics run;
  if (accepts<Error>([&] { run = read_run_metrics(folder); })) {
    check_run(run);
    const bool has_markup =
        input.find('<') != std::string_view::npos || input.find("\\u003c") != std::string_view::npos;
    if (has_markup) check_report(folder);  // which takes a while
  }
  check_resuming(folder / "metrics.jsonl");
}

std::vector<std::string> metrics_seeds() {
  const test::SampleRun run{.name = "seed", .steps = 20, .log_interval = 4, .layers = 2, .experts = 3, .imbalance = 1};
  const std::filesystem::path folder = test::write_sample_run(scratch("metrics"), run);
  return {test::slurp(folder / "metrics.jsonl"),
          "{\"event\":\"start\",\"step\":0}\n{\"event\":\"train\",\"step\":3,\"loss\":1.5}\n"
          "{\"event\":\"alarm\",\"step\":3,\"layer\":1}\n{\"event\":\"stopped\",\"step\":3}\n{\"event\":\"tr"};
}

void run_trace(std::string_view input) {
  static const std::filesystem::path file = scratch("trace") / "trace.jsonl";
  test::spill(file, input);
  RoutingTrace trace;
  if (!accepts<DataError>([&] { trace = read_routing_trace(file); })) return;
  int64_t most = 0;
  for (const auto& [layer, sets] : trace.layers) {
    int64_t tokens = 0;
    for (const auto& [experts, count] : sets) {
      const auto outside = [&](int32_t expert) { return expert < 0 || expert >= trace.num_experts; };
      require(std::none_of(experts.begin(), experts.end(), outside), "every expert is one of the model's");
      require(std::adjacent_find(experts.begin(), experts.end(), std::greater_equal<>()) == experts.end(),
              "a token's experts are different ones");
      tokens += count;
    }
    most = std::max(most, tokens);
  }
  require(trace.tokens == most && most > 0, "every token is counted");
}

std::vector<std::string> trace_seeds() {
  return {R"({"format":"switchyard-trace-1","num_experts":4,"top_k":2,"layers":[1,3]})"
          "\n"
          R"({"position":0,"token":7,"layer":1,"experts":[2,0],"weights":[0.7,0.3]})"
          "\n"
          R"({"position":1,"token":8,"layer":3,"experts":[],"weights":[]})"
          "\n"};
}

void run_sweep_state(std::string_view input) {
  static const std::filesystem::path folder = scratch("sweep_state");
  test::spill(folder / "state.json", input);
  int64_t threads = 0;
  if (!accepts<Error>([&] { threads = stored_threads(folder); })) return;
  require(threads >= 0 && threads <= 1024, "a sweep's threads are those of a configuration");
}

std::vector<std::string> sweep_state_seeds() {
  return {
      R"({"version": 1, "threads": 2, "runs": {"a-seed-1": {"seconds": 1.5}, "b": {"failed": true, "error": "x"}}})"};
}

// Every line is a variable of the environment.
void run_launch(std::string_view input) {
  std::map<std::string, std::string> variables;
  while (!input.empty()) {
    const std::string_view line = input.substr(0, input.find('\n'));
    input.remove_prefix(std::min(line.size() + 1, input.size()));
    const size_t equals = std::min(line.find('='), line.size());
    variables[std::string(line.substr(0, equals))] = line.substr(std::min(equals + 1, line.size()));
  }
  const auto environment = [&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() || found->second.empty() ? std::nullopt : std::optional(found->second);
  };
  Launch launch;
  if (!accepts<DistributedError>([&] { launch = read_launch(environment); })) return;
  require(launch.rank >= 0 && launch.rank < launch.world_size, "the rank is one of the world's");
  require(launch.local_rank >= 0 && launch.local_rank < launch.local_world_size,
          "the local rank is one of the machine's");
  require(launch.local_world_size <= launch.world_size, "a machine has no more ranks than there are");
  require(launch.port >= 1 && launch.port <= 65535 && launch.restarts >= 0, "the port is one");
}

std::vector<std::string> launch_seeds() {
  return {
      "RANK=1\nWORLD_SIZE=4\nLOCAL_RANK=1\nLOCAL_WORLD_SIZE=4\nMASTER_ADDR=a\nMASTER_PORT=29500\n"
      "TORCHELASTIC_RUN_ID=x\nTORCHELASTIC_RESTART_COUNT=2",
      "OMPI_COMM_WORLD_RANK=0\nOMPI_COMM_WORLD_SIZE=2\nOMPI_COMM_WORLD_LOCAL_RANK=0\nOMPI_COMM_WORLD_LOCAL_SIZE=2",
      "SLURM_PROCID=3\nSLURM_NTASKS=8\nSLURM_LOCALID=1\nSLURM_STEP_ID=0\nSLURM_NNODES=2\nSLURM_JOB_ID=7\n"
      "SLURM_STEP_NODELIST=gpu[07-09,12],login\nSLURM_RESTART_COUNT=1",
      "PMI_RANK=0\nPMI_SIZE=1\nMPI_LOCALRANKID=0\nMPI_LOCALNRANKS=1"};
}

}  // namespace

std::vector<Target> run_targets() {
  return {{"metrics", run_metrics, metrics_seeds},
          {"trace", run_trace, trace_seeds},
          {"sweep_state", run_sweep_state, sweep_state_seeds},
          {"launch", run_launch, launch_seeds}};
}

}  // namespace switchyard::fuzz
