// The contract of docs/parallel.md: the numbers of a run do not depend on how many ranks compute it, or on how experts
// are spread over them. This binary starts itself once per rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "base/files.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "tests/integration/ranks.h"
#include "tests/support/configs.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensors.h"
#include "train/run_state.h"
#include "train/step.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

constexpr int64_t kSteps = 50;
constexpr int64_t kLength = 6;
const std::string kBroken = "broken:";  // before the folder: see train_broken()

struct Case {
  const char* name;
  std::vector<std::string> overrides;
};

// Every router and every loss, in models that also have what else could depend on the layout.
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"top_k", {"moe.num_shared_experts=1", "model.num_layers=2", "moe.aux_loss_scope=global_batch"}},
      {"top_k_first_choices", {"moe.aux_loss_choices=first"}},
      {"top_k_sequence", {"moe.aux_loss_scope=sequence", "moe.aux_loss_probabilities=chosen"}},
      {"top_k_capacity", {"moe.capacity_factor=1.0", "moe.aux_loss_layers=mean", "moe.aux_loss_scope=global_batch"}},
      // A router of zeros: at first every token goes to the first two experts, and no other rank has any.
      {"top_k_one_rank",
       {"moe.router.init_scale=0", "moe.router.softmax=after", "moe.aux_loss_coeff=0", "moe.z_loss_coeff=0"}},
      {"sigmoid_bias",
       {"moe.router.score=sigmoid", "moe.router.expert_bias=true", "moe.router.bias_rate=0.01", "model.num_layers=2"}},
      {"groups", {"moe.router.num_groups=4", "moe.router.top_groups=2"}},
      {"second_expert", {"moe.router.second_expert=random", "moe.capacity_factor=1.25"}},
      {"null_experts", {"moe.router.null_experts=2"}},
      {"dropout_jitter", {"model.dropout=0.1", "moe.router.jitter=0.1", "model.bias=true"}},
      {"switch", {"moe.router.type=switch", "moe.capacity_factor=1.0", "moe.top_k=1"}},
      {"noisy_top_k", {"moe.router.type=noisy_top_k", "moe.aux_loss_scope=global_batch"}},
      {"hierarchical", {"moe.router.type=hierarchical", "moe.router.num_groups=4", "moe.router.top_groups=2"}},
      {"soft_mixture", {"moe.router.type=soft_mixture", "moe.top_k=8"}},
      {"expert_choice", {"moe.router.type=expert_choice"}},
      {"threshold", {"moe.router.type=threshold"}},
      {"hash", {"moe.router.type=hash"}},
      {"random", {"moe.router.type=random"}},
      {"sinkhorn", {"moe.router.type=sinkhorn"}},
      {"quantile", {"moe.router.type=quantile"}},
      {"soft_moe", {"moe.router.type=soft_moe"}},
      {"depth",
       {"mixture_of_depths.capacity_factor=0.5", "mixture_of_depths.layer_freq=2", "model.num_layers=2",
        "moe.aux_loss_scope=global_batch"}},
      {"top_k_selective",
       {"moe.num_shared_experts=1", "model.num_layers=2", "moe.aux_loss_scope=global_batch",
        "training.recompute=selective"}},
      {"top_k_full",
       {"moe.num_shared_experts=1", "model.num_layers=2", "moe.aux_loss_scope=global_batch",
        "training.recompute=full"}},
      {"top_k_one_rank_full",
       {"moe.router.init_scale=0", "moe.router.softmax=after", "moe.aux_loss_coeff=0", "moe.z_loss_coeff=0",
        "training.recompute=full"}},
      {"dropout_jitter_full",
       {"model.dropout=0.1", "moe.router.jitter=0.1", "model.bias=true", "training.recompute=full"}},
      {"depth_full",
       {"mixture_of_depths.capacity_factor=0.5", "mixture_of_depths.layer_freq=2", "model.num_layers=2",
        "moe.aux_loss_scope=global_batch", "training.recompute=full"}},
  };
  return all;
}

// Enough for every rank, and several on most.
int64_t micro_batches(const test::Layout& layout) {
  return layout.micro_batches > 0 ? layout.micro_batches : std::max(4, layout.ranks);
}

// In single precision, some of them.
bool is_trained(const Case& test, const test::Layout& layout) {
  static const std::set<std::string> some = {"top_k",    "sigmoid_bias", "noisy_top_k", "switch",
                                             "soft_moe", "depth",        "top_k_full",  "depth_full"};
  return layout.precision == "fp64" || some.contains(test.name);
}

Config config_of(const Case& test, const test::Layout& layout) {
  std::vector<std::string> overrides = {
      "moe.num_experts=8",
      "moe.top_k=2",
      "moe.intermediate_size=5",
      "moe.aux_loss_coeff=0.1",
      "moe.z_loss_coeff=0.05",
      "training.precision=" + layout.precision,
      "training.micro_batch_size=1",
      "training.global_batch_size=" + std::to_string(micro_batches(layout)),
      "training.seq_length=" + std::to_string(kLength),
      "parallel.expert_parallel_size=" + std::to_string(layout.expert_parallel),
      std::string("parallel.distributed_optimizer=") + (layout.distributed_optimizer ? "true" : "false")};
  overrides.insert(overrides.end(), test.overrides.begin(), test.overrides.end());
  return test::tiny_config(overrides);
}

std::vector<double> values_of(const Tensor& tensor) {
  const Tensor flat = tensor.detach().to(torch::kFloat64).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

Json numbers_of(const StepLosses& losses, TrainingStep& step) {
  Json line = {{"loss", losses.total}, {"lm_loss", losses.lm}, {"grad_norm", losses.grad_norm}};
  for (const auto& [name, value] : losses.auxiliary) line[name] = value;
  RoutingTotals routing = step.routing();
  if (!routing.layers.empty()) {
    Json sums = Json::array();
    for (const Tensor* sum : sums_of(routing)) {
      for (const double value : values_of(*sum)) sums.push_back(value);
    }
    line["routing"] = sums;
    line["num_tokens"] = routing.num_tokens;
  }
  if (step.depths().counts.defined()) line["depths"] = values_of(step.depths().counts);
  return line;
}

MicroBatchSource tokens_of(const Config& config, int64_t step) {
  return [vocabulary = *config.model.vocab_size, step](int64_t micro_batch) {
    // No token twice: equal ones could tie in a router, and rounding would decide.
    const auto seed = static_cast<uint64_t>(100 * step + micro_batch);
    const Tensor order = test::random_tensor({vocabulary}, seed).argsort();
    const Tensor tokens = order.narrow(0, 0, kLength + 1).unsqueeze(0);
    return BatchTensors{tokens.narrow(1, 0, kLength), tokens.narrow(1, 1, kLength).flatten(), 1};
  };
}

// What one rank does: trains every case and leaves OUT/<case>.json and a checkpoint in OUT/<case>.
void train_case(const Case& test, const test::Layout& layout, const fs::path& out,
                const std::shared_ptr<World>& world) {
  const Config config = config_of(test, layout);
  Transformer model = build_model(config, torch::kCPU, experts_here(config, *world));
  TrainingStep step(model, config, world);
  Json lines = Json::array();
  for (int64_t i = 1; i <= kSteps; ++i) {
    const StepLosses losses = step.gradients(i, micro_batches(layout), tokens_of(config, i));
    lines.push_back(numbers_of(losses, step));
    step.update(3e-3);
  }
  Checkpoint checkpoint;
  checkpoint.step = kSteps;
  save_checkpoint_share(out / test.name, checkpoint, owned_share(model, step, *world), 0, world->saving());
  if (world->first()) write_file_durably(out / (std::string(test.name) + ".json"), lines.dump());
}

// One rank's weights are broken: what every rank then hears of the step, by rank.
void train_broken(const test::Layout& layout, const fs::path& out, const std::shared_ptr<World>& world) {
  const Config config = config_of({"broken", {}}, layout);
  Transformer model = build_model(config, torch::kCPU, experts_here(config, *world));
  TrainingStep step(model, config, world);
  if (world->rank() == 1) model->output_weight().detach().fill_(std::numeric_limits<double>::quiet_NaN());
  const StepLosses losses = step.gradients(1, micro_batches(layout), tokens_of(config, 1));
  write_file_durably(out / std::to_string(world->rank()), Json({losses.finite(), losses.faulty_rank}).dump());
}

struct Results {
  std::map<std::string, Json> lines;
  std::map<std::string, Checkpoint> checkpoints;
};

Results run(const test::Layout& layout) {
  const test::TemporaryFolder folder;
  test::run_ranks(layout, folder.path().string());
  Results results;
  for (const Case& test : cases()) {
    if (!is_trained(test, layout)) continue;
    const fs::path base = folder.path() / test.name;
    results.lines[test.name] = parse_json(read_file(base.string() + ".json"), test.name);
    results.checkpoints[test.name] = load_checkpoint(base / "step-00000050");
  }
  return results;
}

// What one process computes of the same batches; once for each precision and size of the batch.
const Results& one_process(const test::Layout& layout) {
  static std::map<std::pair<std::string, int64_t>, Results> results;
  const auto key = std::make_pair(layout.precision, micro_batches(layout));
  if (!results.contains(key)) {
    results[key] = run({.precision = layout.precision, .micro_batches = micro_batches(layout)});
  }
  return results[key];
}

void expect_close(const Json& expected, const Json& found, double tolerance, const std::string& where) {
  if (expected.is_array()) {
    ASSERT_EQ(expected.size(), found.size()) << where;
    for (size_t i = 0; i < expected.size(); ++i) expect_close(expected[i], found[i], tolerance, where);
  } else {
    const double value = expected.get<double>();
    EXPECT_NEAR(value, found.get<double>(), tolerance * std::max(std::abs(value), 1e-3)) << where;
  }
}

void expect_same_lines(const Json& expected, const Json& found, size_t step, double tolerance,
                       const std::string& name) {
  ASSERT_EQ(expected[step].size(), found[step].size());
  for (const auto& [key, value] : expected[step].items()) {
    expect_close(value, found[step].at(key), tolerance, name + ", step " + std::to_string(step + 1) + ", " + key);
  }
}

void expect_same_tensors(const TensorMap& expected, const TensorMap& found, double tolerance, const std::string& name) {
  ASSERT_EQ(expected.size(), found.size()) << name;
  for (const auto& [key, tensor] : expected) {
    ASSERT_TRUE(found.contains(key)) << name << ": " << key;
    const Tensor& other = found.at(key);
    ASSERT_EQ(tensor.sizes(), other.sizes()) << name << ": " << key;
    const double scale = std::max(1e-30, tensor.abs().max().item<double>());
    EXPECT_LE((tensor - other).abs().max().item<double>(), tolerance * scale) << name << ": " << key;
  }
}

// On one layout training.recompute changes no bit.
void expect_same_without_recomputing(const Results& found) {
  for (const auto& [name, lines] : found.lines) {
    for (const char* ending : {"_selective", "_full"}) {
      if (!name.ends_with(ending)) continue;
      const std::string plain = name.substr(0, name.size() - std::strlen(ending));
      EXPECT_EQ(lines, found.lines.at(plain)) << name;
      expect_same_tensors(found.checkpoints.at(plain).model, found.checkpoints.at(name).model, 0, name);
    }
  }
}

class Layouts : public testing::TestWithParam<test::Layout> {};

TEST_P(Layouts, FiftyStepsInDoublePrecisionAreThoseOfOneProcess) {
  test::Layout layout = GetParam();
  const Results& expected = one_process(layout);
  const Results found = run(layout);
  for (const Case& test : cases()) {
    const std::string name = test.name;
    for (size_t step = 0; step < kSteps; ++step) {
      expect_same_lines(expected.lines.at(name), found.lines.at(name), step, 1e-9, name);
    }
    expect_same_tensors(expected.checkpoints.at(name).model, found.checkpoints.at(name).model, 1e-9, name);
    expect_same_tensors(expected.checkpoints.at(name).optimizer, found.checkpoints.at(name).optimizer, 1e-9, name);
  }
  expect_same_without_recomputing(found);
}

INSTANTIATE_TEST_SUITE_P(RanksAndExpertParallelSize, Layouts,
                         testing::Values(test::Layout{.ranks = 2}, test::Layout{.ranks = 2, .expert_parallel = 2},
                                         test::Layout{.ranks = 2, .distributed_optimizer = true},
                                         test::Layout{.ranks = 4, .expert_parallel = 2, .distributed_optimizer = true},
                                         test::Layout{.ranks = 4, .expert_parallel = 4},
                                         test::Layout{.ranks = 8, .expert_parallel = 4}),
                         [](const auto& info) { return info.param.name(); });

TEST(Layouts, SinglePrecisionStaysNearAndIsTheSameTwice) {
  const test::Layout layout{.ranks = 2, .expert_parallel = 2, .precision = "fp32"};
  const Results& expected = one_process(layout);
  const Results found = run(layout);
  const Results again = run(layout);
  for (const Case& test : cases()) {
    if (!is_trained(test, layout)) continue;
    const std::string name = test.name;
    const Json& lines = found.lines.at(name);
    for (size_t step = 0; step < 5; ++step) {
      for (const char* key : {"loss", "lm_loss", "grad_norm"}) {
        expect_close(expected.lines.at(name)[step][key], lines[step][key], 1e-5, name + " " + key);
      }
    }
    expect_close(expected.lines.at(name)[kSteps - 1]["loss"], lines[kSteps - 1]["loss"], 1e-3, name);
    EXPECT_EQ(lines, again.lines.at(name)) << name;
    expect_same_tensors(found.checkpoints.at(name).model, again.checkpoints.at(name).model, 0, name);
  }
}

TEST(Faults, ANumberThatIsNotFiniteOnOneRankIsSeenByAllBeforeTheUpdate) {
  const test::TemporaryFolder folder;
  test::run_ranks({.ranks = 2, .expert_parallel = 2}, kBroken + folder.path().string());
  for (const char* rank : {"0", "1"}) {
    EXPECT_EQ(parse_json(read_file(folder / rank), rank), Json({false, 1})) << rank;
  }
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  using namespace switchyard;
  if (argc == 2 && std::getenv("SWITCHYARD_TEST_LAYOUT") != nullptr) {
    const std::string argument = argv[1];
    return test::as_rank([&](const test::Layout& layout, const std::shared_ptr<World>& world) {
      if (argument.starts_with(kBroken)) return train_broken(layout, argument.substr(kBroken.size()), world);
      for (const Case& test : cases()) {
        if (is_trained(test, layout)) train_case(test, layout, argument, world);
      }
    });
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
