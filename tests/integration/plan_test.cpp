// What `switchyard plan` says a rank holds and sends, against what ranks here allocate and send. This binary starts
// itself once per rank.
#include "parallel/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <thread>

#include "base/files.h"
#include "base/json.h"
#include "model/accounting.h"
#include "tests/integration/ranks.h"
#include "tests/support/allocation_meter.h"
#include "tests/support/configs.h"
#include "tests/support/one_thread.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensors.h"
#include "train/run_state.h"
#include "train/step.h"

namespace switchyard {
namespace {

// How near the plan must be.
constexpr double kTolerance = 0.05;
constexpr int64_t kMicroBatches = 8;
// Bytes of tensors that a process without a model may have.
constexpr int64_t kLeftOver = 1 << 16;

struct Case {
  const char* name;
  std::vector<std::string> overrides;
  bool one_micro_batch = false;  // a rank
};

// A random router uses experts evenly, up to chance.
const std::vector<Case>& even_cases() {
  static const std::vector<Case> all = {
      {"fp32", {}},
      {"bf16", {"training.precision=bf16"}},
      {"one_micro_batch", {}, true},
      {"shared", {"moe.num_shared_experts=1", "model.tie_word_embeddings=false"}},
      {"learned_router", {"moe.router.type=top_k", "moe.router.init_scale=0.1", "moe.aux_loss_scope=global_batch"}},
      {"half_of_the_choices", {"moe.capacity_factor=0.5"}},
      {"dense", {}},
      {"gelu", {"model.activation=gelu"}},
      {"long", {"training.seq_length=640", "training.micro_batch_size=2"}},
      {"softcap", {"training.seq_length=640", "training.micro_batch_size=2", "model.attention_softcap=30"}},
      {"window", {"training.seq_length=640", "training.micro_batch_size=2", "model.sliding_window=64"}},
      {"selective", {"training.recompute=selective"}},
      {"selective_beside", {"training.recompute=selective", "moe.num_shared_experts=1", "training.precision=bf16"}},
      {"full", {"training.recompute=full"}},
      {"full_bf16", {"training.recompute=full", "training.precision=bf16"}},
      {"full_one_micro_batch", {"training.recompute=full"}, true},
      {"full_learned_router",
       {"training.recompute=full", "moe.router.type=top_k", "moe.router.init_scale=0.1",
        "moe.aux_loss_scope=global_batch"}},
      {"full_depths",
       {"training.recompute=full", "mixture_of_depths={capacity_factor: 0.25, layer_freq: 2}", "model.num_layers=4"}},
      {"dense_full", {"training.recompute=full"}},
  };
  return all;
}

// A router of zeros, which stays so: every token on the first two experts, which rank 0 holds.
const std::vector<Case>& worst_cases() {
  static const std::vector<std::string> zeros = {"moe.router.type=top_k", "moe.router.init_scale=0"};
  static const std::vector<Case> all = {
      {"two_experts", zeros},
      {"two_experts_selective", {zeros[0], zeros[1], "training.recompute=selective"}},
      {"two_experts_full", {zeros[0], zeros[1], "training.recompute=full"}},
  };
  return all;
}

bool is_dense(const Case& test) { return std::string(test.name).starts_with("dense"); }

Config config_of(const Case& test, const test::Layout& layout) {
  std::vector<std::string> overrides = {
      "model.hidden_size=64",           "model.num_layers=3",         "model.num_attention_heads=4",
      "model.intermediate_size=128",    "model.vocab_size=512",       "model.init_std=0.02",
      "model.tie_word_embeddings=true", "moe.num_experts=8",          "moe.top_k=2",
      "moe.intermediate_size=96",       "moe.router.type=random",     "moe.aux_loss_coeff=0",
      "training.seq_length=64",         "training.micro_batch_size=8"};
  if (is_dense(test)) {
    std::erase_if(overrides, [](const std::string& key) { return key.starts_with("moe."); });
  }
  overrides.insert(overrides.end(), test.overrides.begin(), test.overrides.end());
  overrides.push_back("parallel.expert_parallel_size=" + std::to_string(layout.expert_parallel));
  overrides.push_back(std::string("parallel.distributed_optimizer=") +
                      (layout.distributed_optimizer ? "true" : "false"));
  Config config = test::tiny_config(overrides);
  const int64_t micro_batches = test.one_micro_batch ? layout.ranks : kMicroBatches;
  config.training.global_batch_size = micro_batches * config.training.micro_batch_size;
  return config;
}

RankLayout planned_layout(const test::Layout& layout) {
  return {.ranks = layout.ranks,
          .expert_parallel = layout.expert_parallel,
          .distributed_optimizer = layout.distributed_optimizer};
}

// Steps after a first one, in this process: bytes that the second sends, and the median of what each of five holds.
// When Gloo's threads let go of what was sent is a matter of time: on two cores one step in ten or so holds up to a
// tenth more.
Json measure(const Config& config, const std::shared_ptr<World>& world) {
  test::AllocationMeter& meter = test::AllocationMeter::installed();
  // Gloo's threads may still be about to let go of what the case before sent.
  for (int wait = 0; wait < 10000 && meter.live() > kLeftOver; ++wait) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  Transformer model = build_model(config, torch::kCPU, experts_here(config, *world));
  TrainingStep step(model, config, world);
  Json found = {{"state", meter.live()}};
  const int64_t micro_batches = *config.training.global_batch_size / config.training.micro_batch_size;
  const int64_t length = config.training.seq_length;
  const int64_t sequences = config.training.micro_batch_size;
  double dispatched = 0;
  double others = 0;
  std::vector<int64_t> peaks;
  for (int64_t number = 1; number <= 6; ++number) {
    const double dispatched_before = world->experts().bytes_sent();
    const auto sent_to_others = [&] {
      return world->all().bytes_sent() + world->replicas().bytes_sent() + world->control().bytes_sent();
    };
    const double others_before = sent_to_others();
    meter.restart_peak();
    step.gradients(number, micro_batches, [&](int64_t micro_batch) {
      const auto seed = static_cast<uint64_t>(number * micro_batches + micro_batch);
      const torch::Tensor tokens = test::random_integers(*config.model.vocab_size, {sequences, length + 1}, seed);
      return BatchTensors{tokens.narrow(1, 0, length), tokens.narrow(1, 1, length).flatten(), sequences};
    });
    step.update(/*lr=*/0);
    if (number > 1) peaks.push_back(meter.peak());
    if (number != 2) continue;
    dispatched = world->experts().bytes_sent() - dispatched_before;
    others = sent_to_others() - others_before;
  }
  std::nth_element(peaks.begin(), peaks.begin() + 2, peaks.end());
  found["peak"] = peaks[2];
  found["dispatched"] = dispatched;
  found["others"] = others;
  return found;
}

void measure_all(const test::Layout& layout, const std::filesystem::path& out, const std::shared_ptr<World>& world) {
  Json found;
  for (const Case& test : even_cases()) {
    if (layout.expert_parallel > 1 && is_dense(test)) continue;
    found[test.name] = measure(config_of(test, layout), world);
  }
  for (const Case& test : worst_cases()) found[test.name] = measure(config_of(test, layout), world);
  write_file_durably(out / std::to_string(world->rank()), found.dump());
}

// [rank][case]; each layout runs once.
const std::vector<Json>& run(const test::Layout& layout) {
  static std::map<std::string, std::vector<Json>> all;
  std::vector<Json>& found = all[layout.name()];
  if (!found.empty()) return found;
  const test::TemporaryFolder folder;
  test::run_ranks(layout, folder.path().string());
  for (int rank = 0; rank < layout.ranks; ++rank) {
    found.push_back(parse_json(read_file(folder.path() / std::to_string(rank)), "rank " + std::to_string(rank)));
  }
  return found;
}

void expect_near(double planned, double found, const std::string& what) {
  EXPECT_NEAR(planned, found, kTolerance * found) << what;
  if (found > 0)
    std::printf("%-40s planned %12.0f, found %12.0f: %.3f\n", what.c_str(), planned, found, planned / found);
}

class PlannedLayouts : public testing::TestWithParam<test::Layout> {};

TEST_P(PlannedLayouts, HoldAndSendWhatWasPlanned) {
  const test::Layout layout = GetParam();
  const std::vector<Json>& found = run(layout);
  for (const Case& test : even_cases()) {
    if (!found[0].contains(test.name)) continue;
    const std::string name = layout.name() + " " + test.name;
    const Config config = config_of(test, layout);
    const RankMemory memory = plan_memory(config, planned_layout(layout));
    const RankTraffic traffic = plan_traffic(config, planned_layout(layout));
    double dispatched = 0;
    double peak = 0;
    for (const Json& rank : found) {
      const Json& numbers = rank.at(test.name);
      expect_near(memory.weights + memory.buckets + memory.optimizer, numbers["state"].get<double>(), name + " state");
      expect_near(traffic.total() - traffic.dispatch, numbers["others"].get<double>(), name + " sums");
      dispatched += numbers["dispatched"].get<double>();
      peak += numbers["peak"].get<double>();
    }
    const double ranks = layout.ranks;
    expect_near(ranks * traffic.dispatch, dispatched, name + " rows");
    expect_near(ranks * memory.peak, peak, name + " peak");
  }
}

TEST_P(PlannedLayouts, HoldWhatIsPlannedForTheWorstRouting) {
  const test::Layout layout = GetParam();
  const std::vector<Json>& found = run(layout);
  for (const Case& test : worst_cases()) {
    const RankMemory memory = plan_memory(config_of(test, layout), planned_layout(layout));
    expect_near(memory.worst, found[0].at(test.name)["peak"].get<double>(), layout.name() + " " + test.name);
  }
}

INSTANTIATE_TEST_SUITE_P(RanksAndExpertParallelSize, PlannedLayouts,
                         testing::Values(test::Layout{.ranks = 2}, test::Layout{.ranks = 2, .expert_parallel = 2},
                                         test::Layout{.ranks = 2, .distributed_optimizer = true},
                                         test::Layout{.ranks = 4, .expert_parallel = 2, .distributed_optimizer = true},
                                         test::Layout{.ranks = 4, .expert_parallel = 4}),
                         [](const auto& info) { return info.param.name(); });

TEST(PlannedMemory, OfOneProcess) {
  const test::OneThread one_thread;
  for (const Case& test : even_cases()) {
    const Config config = config_of(test, {});
    const Json found = measure(config, World::alone());
    expect_near(estimate_memory(config).total, found["peak"].get<double>(), std::string("alone ") + test.name);
  }
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  using namespace switchyard;
  if (argc == 2 && std::string(argv[1]) != "" && std::getenv("SWITCHYARD_TEST_LAYOUT") != nullptr) {
    return test::as_rank(
        [&](const test::Layout& layout, const std::shared_ptr<World>& world) { measure_all(layout, argv[1], world); });
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
