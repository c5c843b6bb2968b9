#include "train/bench.h"

#include <sys/resource.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/cuda.h>

#include <chrono>

#include "base/errors.h"
#include "base/files.h"
#include "model/accounting.h"
#include "ops/kernels/kernels.h"
#include "ops/matrix_product.h"
#include "ops/step_parts.h"
#include "train/join.h"
#include "train/run_state.h"
#include "train/setup.h"
#include "train/step.h"

namespace switchyard {
namespace {

// Steps that are timed part by part.
constexpr int64_t kMostPartSteps = 5;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void synchronise(torch::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize();
}

// FLOP/s of square matrix products, the best of three timings.
double gemm_rate(torch::ScalarType type, torch::Device device) {
  constexpr int64_t kSize = 1024;
  constexpr int kRepeats = 8;
  const torch::Tensor a = torch::randn({kSize, kSize}, device).to(type);
  const torch::Tensor b = torch::randn({kSize, kSize}, device).to(type);
  torch::Tensor c = matrix_product(a, b);
  double best = 0;
  for (int trial = 0; trial < 3; ++trial) {
    synchronise(device);
    const auto begin = Clock::now();
    for (int i = 0; i < kRepeats; ++i) matrix_product_out(c, a, b);
    synchronise(device);
    best = std::max(best, kRepeats * 2.0 * kSize * kSize * kSize / seconds_since(begin));
  }
  return best;
}

// Seconds of a step by part, the mean of `steps` steps.
OrderedJson time_parts(torch::Device device, int64_t steps, const std::function<void()>& one_step) {
  synchronise(device);
  std::array<double, kNumStepParts> sums{};
  for (int64_t i = 0; i < steps; ++i) {
    StepPartRecorder recorder(device.is_cuda() ? [] { torch::cuda::synchronize(); } : [] {});
    one_step();
    const auto seconds = recorder.seconds();
    for (size_t part = 0; part < kNumStepParts; ++part) sums[part] += seconds[part];
  }
  OrderedJson parts = OrderedJson::object();
  for (size_t part = 0; part < kNumStepParts; ++part) {
    parts[std::string(part_name(static_cast<StepPart>(part)))] = sums[part] / static_cast<double>(steps);
  }
  return parts;
}

// One step under LibTorch's profiler: a file for chrome://tracing or ui.perfetto.dev.
void write_trace(torch::Device device, DurableFile& file, const std::function<void()>& one_step) {
  using namespace torch::autograd::profiler;
  using torch::profiler::impl::ActivityType;
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO,
                                                     /*report_input_shapes=*/true);
  ::setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);  // the library tells of every GPU that it does not find
  prepareProfiler(config, activities);
  enableProfiler(config, activities,
                 {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE});
  one_step();
  const auto profile = disableProfiler();
  // The profiler empties the file that it is told, and reports no failure: it gets one of ours, in a folder of our own.
  std::string folder = (std::filesystem::temp_directory_path() / "switchyard-trace-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) throw Error("cannot create the folder " + folder + " for the trace");
  profile->save(folder + "/trace.json");
  const std::string text = read_file(folder + "/trace.json");
  std::filesystem::remove_all(folder);
  file.write(text.data(), text.size());
  file.commit();
}

// Fresh tokens for every micro-batch.
MicroBatchSource random_tokens(const Config& config, torch::Device device) {
  const TrainingConfig training = config.training;
  const int64_t vocabulary = *config.model.vocab_size;
  return [=](int64_t) {
    const torch::Tensor tokens =
        torch::randint(vocabulary, {training.micro_batch_size, training.seq_length + 1}, torch::kInt64).to(device);
    return BatchTensors{tokens.narrow(1, 0, training.seq_length), tokens.narrow(1, 1, training.seq_length).flatten(),
                        training.micro_batch_size};
  };
}

}  // namespace

double measure_gemm_rate(const Config& config) {
  set_threads(config, {});
  return gemm_rate(compute_type(config), choose_device(config.training.device, 0, gpus_of_machine()));
}

int64_t peak_memory_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

OrderedJson run_bench(const Config& requested, const BenchOptions& options) {
  Config config = with_vocabulary(requested, 8192);
  const auto world = join_world(config);
  // Created before the work, so that a path that can't be written to is told at once.
  std::optional<DurableFile> trace;
  if (!options.trace.empty() && world->first()) trace.emplace(options.trace);
  set_threads(config, world->launch());
  const torch::Device device = world->device();
  torch::manual_seed(static_cast<uint64_t>(config.run.seed));
  const double gemm = gemm_rate(compute_type(config), device);
  Transformer model = build_model(config, device, experts_here(config, *world));
  TrainingStep step(model, config, world);
  const MicroBatchSource source = random_tokens(config, device);
  const int64_t micro_batches = *config.training.global_batch_size / config.training.micro_batch_size;
  std::vector<double> times;
  StepLosses losses;
  int64_t done = 0;
  const auto one_step = [&] {
    losses = step.gradients(++done, micro_batches, source);
    step.update(config.optimizer.lr);
    synchronise(device);
  };
  while (done < options.warmup_steps + options.steps) {
    synchronise(device);
    world->control().barrier();
    const auto begin = Clock::now();
    one_step();
    if (done > options.warmup_steps) times.push_back(seconds_since(begin));
  }
  const double final_loss = losses.total;
  const int64_t peak_memory = peak_memory_bytes();
  const OrderedJson parts = time_parts(device, std::min<int64_t>(options.steps, kMostPartSteps), one_step);
  if (!options.trace.empty()) trace ? write_trace(device, *trace, one_step) : one_step();
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const double tokens = static_cast<double>(*config.training.global_batch_size * config.training.seq_length);
  const double flops = training_flops_per_token(config);
  const ParameterCount count = count_parameters(config);
  return {{"tokens_per_second", tokens / median},
          {"step_seconds", median},
          {"step_seconds_min", times.front()},
          {"step_seconds_max", times.back()},
          {"flops_per_token", flops},
          {"recomputed_flops_per_token", recomputed_flops_per_token(config)},
          {"flops_per_second", flops * tokens / median},
          {"gemm_flops_per_second", gemm},
          {"gemm_flops_share", flops * tokens / median / gemm / world->size()},
          {"peak_memory_bytes", peak_memory},
          {"parameters", count.total},
          {"active_parameters", count.active},
          {"tokens_per_step", static_cast<int64_t>(tokens)},
          {"precision", precision_name(config.training.precision)},
          {"device", device.str()},
          {"threads", at::get_num_threads()},
          {"ranks", world->size()},
          {"rank", world->rank()},
          {"instruction_set", kernels::instruction_set()},
          {"loss", final_loss},
          {"parts", parts}};
}

}  // namespace switchyard
