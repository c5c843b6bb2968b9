// Random small models, computed in ways that must come to the same. CI takes a few; by hand
//
//   build/release/test_pairs --count 300 --first 20      [--gtest_filter=Pairs.Resume]
//
// takes others. A failure tells the model's number and keys: `--first NUMBER --count 1` does that one again. This
// binary starts itself as ranks.
#include "tests/integration/pairs.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <set>

#include "config/router_keys.h"
#include "tests/integration/ranks.h"
#include "tests/integration/small_training.h"
#include "tests/support/temporary_folder.h"

namespace switchyard::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSteps = 4;
// In float64: an order of sums moves 1e-16 of a value, and AdamW divides by a gradient's size. A wrong factor is 1e-3
// or more.
constexpr double kRounding = 1e-7;

struct Result {
  TensorMap numbers;
  TensorMap tensors;
};

Result train(const Config& config) {
  SmallTraining training(config);
  training.steps(1, kSteps);
  return {training.numbers(), training.tensors()};
}

// What the others are compared with, in float64 and in the model's own type.
const Result& base_of(int64_t number, const std::vector<std::string>& way) {
  static std::map<std::pair<int64_t, std::vector<std::string>>, Result> results;
  const auto key = std::make_pair(number, way);
  if (!results.contains(key)) results[key] = train(config_of(number, way));
  return results[key];
}

void expect_same(const Result& expected, const Result& found, double tolerance) {
  int64_t compared = 0;
  EXPECT_TRUE(same(expected.numbers, found.numbers, tolerance, compared));
  EXPECT_TRUE(same(expected.tensors, found.tensors, tolerance, compared));
  EXPECT_GT(compared, 1000);
}

// Whether a training step draws random numbers: other types and micro-batches get others.
bool draws(const Config& config) {
  if (config.model.dropout > 0) return true;
  if (!config.moe) return false;
  const RouterConfig& router = config.moe->router;
  return router.jitter > 0 || router.second_expert == SecondExpert::kRandom || router.type == RouterType::kNoisyTopK;
}

// Whether a step depends on how its batch is cut into micro-batches.
bool depends_on_split(const Config& config) {
  if (draws(config)) return true;
  if (!config.moe) return false;
  const MoeConfig& moe = *config.moe;
  const RouterConfig& router = moe.router;
  const bool balances_inside =
      moe.aux_loss_scope == AuxLossScope::kMicroBatch || router.type == RouterType::kHierarchical;
  const bool has_budget = router.type == RouterType::kThreshold || router.null_experts > 0;
  return moe.capacity_factor || router.type == RouterType::kSinkhorn || router.type == RouterType::kQuantile ||
         router.choice_scope == TokenScope::kBatch || (moe.aux_loss_coeff > 0 && balances_inside) ||
         (has_budget && router.budget_coeff > 0);
}

// Without the balancing and budget losses of a micro-batch that are reported but not trained on, and those that can't
// change any choice, which are in the sum of the losses, too.
TensorMap without_reported(TensorMap numbers, const Config& config) {
  if (!config.moe) return numbers;
  const bool trained = config.moe->aux_loss_coeff > 0;
  const bool constant =
      trained && config.moe->aux_loss_scope == AuxLossScope::kGlobalBatch && !needs_global_load(config);
  std::erase_if(numbers, [&](const auto& item) {
    return (item.first.ends_with("aux_loss") && (!trained || constant)) ||
           (item.first.ends_with(" loss") && constant) ||
           (item.first.ends_with("budget_loss") && config.moe->router.budget_coeff == 0);
  });
  return numbers;
}

TEST(Pairs, Threads) {
  for_each_model([](int64_t number) {
    const Result& expected = base_of(number, kFloat64);
    at::set_num_threads(2);
    const Result found = train(config_of(number, kFloat64));
    at::set_num_threads(1);
    expect_same(expected, found, kRounding);
  });
}

TEST(Pairs, Recompute) {
  for_each_model([](int64_t number) {
    for (const char* kind : {"selective", "full"}) {
      SCOPED_TRACE(kind);
      const Result found = train(config_of(number, {std::string("training.recompute=") + kind}));
      expect_same(base_of(number, kOwnType), found, 0);
    }
  });
}

TEST(Pairs, Resume) {
  const TemporaryFolder folder(memory_folder());
  for_each_model([&](int64_t number) {
    const Config config = config_of(number);
    SmallTraining before(config);
    before.steps(1, kSteps / 2);
    const fs::path path = before.save(folder / std::to_string(number), kSteps / 2);
    SmallTraining after(config);
    after.load(path);
    after.steps(kSteps / 2 + 1, kSteps);
    Result expected = base_of(number, kOwnType);
    std::erase_if(expected.numbers, [](const auto& item) {
      return item.first.starts_with("step 1 ") || item.first.starts_with("step 2 ");
    });
    expect_same(expected, {after.numbers(), after.tensors()}, 0);
    fs::remove_all(path);
  });
}

// Half the micro-batch: what several ranks are compared with, too, and where the split may not matter, the base.
const std::vector<std::string> kHalved = {"training.precision=fp64", "training.micro_batch_size=1"};

TEST(Pairs, Split) {
  int64_t invariant = 0;
  for_each_model([&](int64_t number) {
    const Config config = config_of(number);
    if (depends_on_split(config)) return;
    ++invariant;
    Result expected = base_of(number, kFloat64);
    Result found = base_of(number, kHalved);
    expected.numbers = without_reported(expected.numbers, config);
    found.numbers = without_reported(found.numbers, config);
    expect_same(expected, found, kRounding);
  });
  expect_share(invariant, 0.25);
}

Config resharded_config(const Layout& layout) {
  std::vector<std::string> keys = {"moe.num_experts=8",     "moe.router.type=expert_choice", "model.vocab_size=61",
                                   "training.seq_length=5", "training.precision=fp64",       "model.bias=true"};
  keys.push_back("parallel.expert_parallel_size=" + std::to_string(layout.expert_parallel));
  keys.push_back(std::string("parallel.distributed_optimizer=") + (layout.distributed_optimizer ? "true" : "false"));
  return tiny_moe_config(keys);
}

bool fits(const Config& config, int64_t expert_parallel) {
  return expert_parallel == 1 || (config.moe && config.moe->num_experts % expert_parallel == 0);
}

Config rank_config(int64_t number, int64_t expert_parallel) {
  std::vector<std::string> way = kHalved;
  way.push_back(std::string("parallel.distributed_optimizer=") + (number % 2 == 0 ? "true" : "false"));
  const Config config = config_of(number, way);
  if (expert_parallel == 1 || !fits(config, expert_parallel)) return config;
  way.push_back("parallel.expert_parallel_size=" + std::to_string(expert_parallel));
  return config_of(number, way);
}

// What a rank does: trains every model that fits, and leaves FOLDER/<number>.numbers and a checkpoint. Or, where the
// argument is two folders, loads the checkpoint of the first and saves it in the second.
void train_as_rank(const std::string& argument, const Layout& layout, const std::shared_ptr<World>& world) {
  const Json settings = parse_json(argument, "argument");
  if (settings.size() == 2) {
    SmallTraining training(resharded_config(layout), world);
    training.load(settings[0].get<std::string>());
    training.save(settings[1].get<std::string>(), kSteps);
    return;
  }
  const fs::path folder = settings[2].get<std::string>();
  const auto first = settings[0].get<int64_t>();
  for (int64_t number = first; number < first + settings[1].get<int64_t>(); ++number) {
    const Config config = rank_config(number, layout.expert_parallel);
    if (!fits(config, layout.expert_parallel)) continue;
    SmallTraining training(config, world);
    training.steps(1, kSteps);
    const TensorMap numbers = training.numbers();
    training.save(folder / std::to_string(number), kSteps);
    if (world->first()) write_safetensors(folder / (std::to_string(number) + ".numbers"), numbers);
  }
}

TEST(Pairs, Ranks) {
  for (const int expert_parallel : {1, 2}) {
    const TemporaryFolder folder(memory_folder());
    const Layout layout{.ranks = 2, .expert_parallel = expert_parallel};
    run_ranks(layout, Json({first_model, num_models, folder.path().string()}).dump());
    if (testing::Test::HasFatalFailure()) return;
    int64_t trained = 0;
    for_each_model([&](int64_t number) {
      if (!fits(rank_config(number, expert_parallel), expert_parallel)) return;
      SCOPED_TRACE("experts on " + std::to_string(expert_parallel));
      ++trained;
      const fs::path place = folder / std::to_string(number);
      Checkpoint checkpoint = load_checkpoint(place / "step-00000004");
      checkpoint.model.merge(checkpoint.optimizer);
      const TensorMap numbers = SafetensorsFile(place.string() + ".numbers").load_all();
      expect_same(base_of(number, kHalved), {numbers, checkpoint.model}, kRounding);
    });
    expect_share(trained, 0.25);
  }
}

// From one layout to the next and back: parameters, buffers and moments stay what they were to the bit.
TEST(Reshard, EveryTensorIsExactOnEveryLayout) {
  const OneThread one_thread;
  const TemporaryFolder folder(memory_folder());
  SmallTraining training(resharded_config({}));
  training.steps(1, kSteps);
  fs::path last = training.save(folder / "one", kSteps);
  for (const Layout& layout : {Layout{.ranks = 8, .expert_parallel = 8}, Layout{.ranks = 2, .expert_parallel = 2},
                               Layout{.ranks = 1}, Layout{.ranks = 4, .distributed_optimizer = true},
                               Layout{.ranks = 4, .expert_parallel = 4, .distributed_optimizer = true}}) {
    const fs::path next = folder / layout.name();
    run_ranks(layout, Json({last.string(), next.string()}).dump());
    if (testing::Test::HasFatalFailure()) return;
    last = next / last.filename();
    Checkpoint found = load_checkpoint(last);
    found.model.merge(found.optimizer);
    int64_t compared = 0;
    EXPECT_TRUE(same(training.tensors(), found.model, 0, compared)) << layout.name();
    EXPECT_GT(compared, 1000);
  }
}

// The first loss in other types. Experts that are chosen by sigmoids plus a bias tie where float32 rounds them to 1.
TEST(Pairs, Precision) {
  for_each_model([](int64_t number) {
    const Config config = config_of(number);
    if (draws(config) || (config.moe && config.moe->router.expert_bias)) return;
    const auto loss = [](const TensorMap& numbers) { return numbers.at("step 1 lm_loss").item<double>(); };
    const double expected = loss(base_of(number, kFloat64).numbers);
    for (const auto& [type, tolerance] : {std::pair{"fp32", 2e-4}, {"bf16", 5e-2}}) {
      SmallTraining training(config_of(number, {std::string("training.precision=") + type}));
      training.steps(1, 1);
      EXPECT_NEAR(loss(training.numbers()), expected, tolerance * expected) << type;
    }
  });
}

TEST(RandomModels, HaveEveryOfferedKey) {
  std::set<std::string> kept;
  for (uint64_t number = 0; number < 100; ++number) random_model(number, &kept);
  for (const Offer& offer : offered_keys()) EXPECT_TRUE(kept.contains(offer.key)) << offer.key;
}

}  // namespace
}  // namespace switchyard::test

int main(int argc, char** argv) {
  using namespace switchyard;
  using namespace switchyard::test;
  if (argc == 2 && std::getenv("SWITCHYARD_TEST_LAYOUT") != nullptr) {
    return as_rank(
        [&](const Layout& layout, const std::shared_ptr<World>& world) { train_as_rank(argv[1], layout, world); });
  }
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--first") first_model = std::stoll(argv[i + 1]);
    if (option == "--count") num_models = std::stoll(argv[i + 1]);
  }
  return RUN_ALL_TESTS();
}
