// What is measured about the routers, against plain loops over tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/train/one_step.h"
#include "train/routes.h"
#include "train/routing_probe.h"
#include "train/routing_summary.h"

namespace switchyard {
namespace {

using test::close;
using test::doubles;
using test::identical;
using test::integers;
using test::run_step;
using test::tiny_moe_config;
using torch::Tensor;

RouterOutput random_routing(int64_t tokens, int64_t num_experts, int64_t top_k, uint64_t seed) {
  RouterOutput router;
  router.logits = 2 * test::random_tensor({tokens, num_experts}, seed);
  router.probabilities = torch::softmax(router.logits, 1);
  std::tie(router.weights, router.expert_ids) = router.probabilities.topk(top_k, 1);
  return router;
}

TEST(RoutingMeasures, AreThoseOfALoopOverTokens) {
  std::vector<RouterOutput> routers = {random_routing(7, 4, 2, 1), random_routing(7, 4, 2, 2)};
  routers[1].layer = 1;
  for (RouterOutput& router : routers) router.output_norms = test::random_tensor({4, 2}, 3).abs();
  RoutingTotals totals;
  accumulate_routing(totals, routers, /*logged=*/true);
  accumulate_routing(totals, routers, /*logged=*/true);  // two micro-batches: every sum twice
  for (int64_t layer = 0; layer < 2; ++layer) {
    const Tensor& logits = routers[static_cast<size_t>(layer)].logits;
    std::vector<double> squares(4, 0.0);
    double norms = 0, z = 0;
    for (int64_t t = 0; t < 7; ++t) {
      double square = 0, exponentials = 0;
      for (int64_t e = 0; e < 4; ++e) {
        const double logit = logits[t][e].item<double>();
        squares[static_cast<size_t>(e)] += 2 * logit * logit;
        square += logit * logit;
        exponentials += std::exp(logit);
      }
      norms += 2 * std::sqrt(square);
      z += 2 * std::pow(std::log(exponentials), 2);
    }
    EXPECT_TRUE(close(totals.logit_squares[layer], doubles(squares)));
    EXPECT_TRUE(close(totals.logit_sums[layer], doubles({norms, z, 14})));
    EXPECT_TRUE(close(totals.output_norms[layer], 2 * routers[0].output_norms));
  }
  const auto layers = summarise_routing(totals, {{0, 0, 0, 9}, {0, 0, 0, 0}}, 9);
  EXPECT_EQ(layers[1].layer, 1);
  EXPECT_THAT(layers[0].statistics.dead, ::testing::ElementsAre(3));
  EXPECT_DOUBLE_EQ(layers[1].statistics.logit_norm, totals.logit_sums[1][0].item<double>() / 14);
  EXPECT_DOUBLE_EQ(layers[1].statistics.z, totals.logit_sums[1][1].item<double>() / 14);
  EXPECT_DOUBLE_EQ(layers[1].statistics.expert_output_norm[2],
                   (totals.output_norms[1][2][0] / totals.output_norms[1][2][1]).item<double>());
}

TEST(RoutingMeasures, OnlyStepsThatAreLoggedHaveThem) {
  EXPECT_TRUE(run_step(tiny_moe_config(), 1).routing.output_norms.defined());  // step 1
  Config config = tiny_moe_config({"training.max_steps=20", "training.log_interval=7"});
  std::vector<int64_t> logged;
  for (int64_t step = 1; step <= 20; ++step) {
    if (is_logged_step(config, step)) logged.push_back(step);
  }
  EXPECT_THAT(logged, ::testing::ElementsAre(1, 7, 14, 20));
}

TEST(RoutingMeasures, DoNotDependOnTheSplitAndChangeNoGradient) {
  const auto whole = run_step(tiny_moe_config(), 1);
  const auto split = run_step(tiny_moe_config(), 4);
  EXPECT_TRUE(close(whole.routing.output_norms, split.routing.output_norms));
  EXPECT_TRUE(close(whole.routing.logit_squares, split.routing.logit_squares));
  EXPECT_TRUE(close(whole.routing.logit_sums, split.routing.logit_sums));
}

// Every chosen expert's output, row by row.
TEST(ExpertOutputNorms, AreThoseOfTheExpertsAlone) {
  const test::OneThread one_thread;
  for (const char* capacity : {"moe.capacity_factor=null", "moe.capacity_factor=0.5"}) {
    const Config config = tiny_moe_config({capacity, "model.num_layers=1"});
    MoeLayer layer(*config.moe, config.model, 0);
    layer->to(test::kF64);
    {
      const torch::NoGradGuard no_grad;
      uint64_t seed = 1;
      for (auto& parameter : layer->parameters()) parameter.copy_(0.5 * test::random_tensor(parameter.sizes(), seed++));
    }
    LocalDispatcher dispatcher;
    const Tensor x = test::random_tensor({37, 8}, 11);
    const auto output = layer->forward({.x = x}, dispatcher, config.moe->capacity_factor, /*measure=*/true);
    Tensor expected = torch::zeros({4, 2}, test::kF64);
    const Tensor gate_up = test::parameter_of(*layer, "experts.gate_up_proj");
    const Tensor down = test::parameter_of(*layer, "experts.down_proj");
    for (int64_t t = 0; t < 37; ++t) {
      for (int64_t k = 0; k < 2; ++k) {
        if (output.routing.kept.defined() && !output.routing.kept[t][k].item<bool>()) continue;
        const int64_t e = output.routing.expert_ids[t][k].item<int64_t>();
        expected[e][0] += test::naive_expert(x[t], gate_up[e], down[e]).norm().detach();
        expected[e][1] += 1;
      }
    }
    EXPECT_TRUE(close(output.routing.output_norms, expected)) << capacity;
    EXPECT_FALSE(layer->forward({.x = x}, dispatcher, std::nullopt).routing.output_norms.defined());
  }
}

TEST(ExpertOutputNorms, OfSoftMoeAreThoseOfItsSlots) {
  const Config config = tiny_moe_config({"moe.router.type=soft_moe", "moe.router.slots_per_expert=3"});
  Transformer model = test::make_model(config);
  model->set_measuring(true);
  const auto routers = model->forward(test::random_tokens(config, 5, 6)).routers;
  EXPECT_TRUE(identical(routers[0].output_norms.select(1, 1), torch::full({4}, 15.0, test::kF64)));
  EXPECT_TRUE((routers[0].output_norms.select(1, 0) > 0).all().item<bool>());
}

TEST(ExpertOutputNorms, NoTokensGiveZeros) {
  const Config config = tiny_moe_config();
  MoeLayer layer(*config.moe, config.model, 0);
  LocalDispatcher dispatcher;
  const auto output = layer->forward({.x = torch::zeros({0, 8})}, dispatcher, std::nullopt, /*measure=*/true);
  EXPECT_TRUE(identical(output.routing.output_norms, torch::zeros({4, 2}, test::kF64)));
}

ModelOutput output_of(RouterOutput router) {
  ModelOutput output;
  output.routers.push_back(std::move(router));
  return output;
}

RouterOutput chosen_routing(std::vector<int64_t> ids, std::vector<int64_t> chosen, int64_t num_experts) {
  RouterOutput router;
  router.expert_ids = integers(ids).view({-1, 2});
  router.weights = torch::ones_like(router.expert_ids, torch::TensorOptions(test::kF32));
  router.logits = torch::zeros({router.expert_ids.size(0), num_experts});
  if (!chosen.empty()) router.chosen = integers(chosen).view({-1, 2}).to(torch::kBool);
  return router;
}

TEST(Routes, SetHashesTellSetsApartAndNotOrders) {
  const auto routes = routes_of(output_of(chosen_routing({0, 1, 1, 0, 0, 2, 0, 1}, {1, 1, 1, 1, 1, 1, 1, 0}, 3)))[0];
  const Tensor hashes = set_hashes(routes);
  EXPECT_TRUE(torch::equal(hashes[0], hashes[1]));
  EXPECT_FALSE(torch::equal(hashes[0], hashes[2]));
  EXPECT_FALSE(torch::equal(hashes[0], hashes[3]));
  EXPECT_TRUE(identical(multi_hot(routes),
                        torch::tensor({{1., 1., 0.}, {1., 1., 0.}, {1., 0., 1.}, {1., 0., 0.}}, test::kF32)));
}

// A token that passes a block of Mixture of Depths finds its choice at its own place; the others have none.
TEST(Routes, OfBlocksThatTokensSkipStandAtTheTokensPlaces) {
  RouterOutput router = chosen_routing({2, 1, 0, 1, 2, 0}, {1, 1, 1, 1, 0, 0}, 3);
  ModelOutput output = output_of(router);
  DepthOutput depth;
  depth.passed = torch::tensor({{0, 1, 1}}).to(torch::kBool);
  depth.rows = integers({1, 2, 0});
  output.depths.push_back(depth);
  const auto routes = routes_of(output)[0];
  EXPECT_TRUE(identical(routes.expert_ids, integers({2, 0, 2, 1, 0, 1}).view({3, 2})));
  EXPECT_TRUE(identical(routes.chosen, torch::tensor({{0, 0}, {1, 1}, {1, 1}}).to(torch::kBool)));
}

TEST(Routes, OfAModelWithDepthsAreWhatItsExpertsComputed) {
  const Config config = tiny_moe_config({"mixture_of_depths.capacity_factor=0.5", "mixture_of_depths.layer_freq=1"});
  Transformer model = test::make_model(config);
  model->set_measuring(true);
  for (const bool training : {true, false}) {
    model->train(training);
    const ModelOutput output = model->forward(test::random_tokens(config, 3, 8));
    const auto all = routes_of(output);
    ASSERT_EQ(all.size(), 2U);
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i].expert_ids.size(0), 24);
      EXPECT_TRUE(identical(all[i].chosen.any(1), output.depths[i].passed.flatten()));
      EXPECT_TRUE(identical(multi_hot(all[i]).sum(0).to(torch::kInt64), tokens_per_expert(output.routers[i])));
    }
  }
}

TEST(RoutingProbe, CountsDomainsPairsAndChangesAsALoopDoes) {
  const auto world = World::alone();
  constexpr int64_t kExperts = 5;
  RoutingProbe probe(2);
  std::vector<std::set<int64_t>> before;
  for (uint64_t evaluation = 0; evaluation < 2; ++evaluation) {
    probe.begin();
    CountTable by_domain(2, std::vector<double>(kExperts, 0.0));
    CountTable pairs(kExperts, std::vector<double>(kExperts, 0.0));
    std::vector<std::set<int64_t>> now;
    for (int64_t batch = 0; batch < 4; ++batch) {
      const int64_t domain = batch / 2;
      // The second evaluation changes the batches 1 and 3 only.
      const uint64_t seed = static_cast<uint64_t>(batch) + (batch % 2 == 1 ? 100 * evaluation : 0);
      const RouterOutput router = random_routing(9, kExperts, 2, seed);
      probe.add(domain, output_of(router));
      for (int64_t t = 0; t < 9; ++t) {
        const int64_t a = router.expert_ids[t][0].item<int64_t>();
        const int64_t b = router.expert_ids[t][1].item<int64_t>();
        for (const int64_t one : {a, b}) {
          ++by_domain[static_cast<size_t>(domain)][static_cast<size_t>(one)];
          for (const int64_t other : {a, b}) ++pairs[static_cast<size_t>(one)][static_cast<size_t>(other)];
        }
        now.push_back({a, b});
      }
    }
    const auto found = probe.finish(world->all());
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].domain_counts, by_domain);
    EXPECT_EQ(found[0].pair_counts, pairs);
    int64_t changed = 0;
    for (size_t t = 0; t < before.size(); ++t) changed += now[t] != before[t];
    EXPECT_EQ(found[0].compared, static_cast<int64_t>(before.size()));
    EXPECT_EQ(found[0].changed, changed);
    EXPECT_EQ(changed > 0, evaluation == 1);
    before = now;
  }
}

TEST(RoutingProbe, ComparesAtMostSoManyTokensAndForgetsWhatWasCutOff) {
  const auto world = World::alone();
  RoutingProbe probe(1, 12);
  for (int round = 0; round < 2; ++round) {
    probe.begin();
    probe.add(0, output_of(random_routing(9, 4, 2, 1)));
    probe.begin();  // cut off
    probe.add(0, output_of(random_routing(9, 4, 2, 2)));
    probe.add(0, output_of(random_routing(9, 4, 2, 3)));
    const auto found = probe.finish(world->all());
    EXPECT_EQ(found[0].compared, round == 0 ? 0 : 12);
    EXPECT_EQ(found[0].changed, 0);
    EXPECT_EQ(found[0].domain_counts[0][0] + found[0].domain_counts[0][1] + found[0].domain_counts[0][2] +
                  found[0].domain_counts[0][3],
              36);
  }
}

TEST(RoutingProbe, EventHoldsEveryField) {
  const ProbedRouting probed{
      .layer = 3, .domain_counts = {{4, 0}, {0, 4}}, .pair_counts = {{4, 2}, {2, 4}}, .compared = 8, .changed = 2};
  const OrderedJson event = probe_event(50, probed, {"a", "b"});
  EXPECT_EQ(event["drift"], 0.25);
  EXPECT_EQ(event["domain_information"], std::log(2.0));
  EXPECT_EQ(event["domain_share"], 1.0);
  EXPECT_EQ(event["domain_load"].dump(), R"({"a":[1.0,0.0],"b":[0.0,1.0]})");
  EXPECT_EQ(event["pairs"].dump(), "[[0,1,2]]");
  EXPECT_TRUE(probe_event(50, {.layer = 3, .domain_counts = {{1}}, .pair_counts = {{1}}}, {"a"})["drift"].is_null());
}

TEST(FrequentPairs, AreSortedAndLimited) {
  const CountTable counts = {{9, 1, 5}, {1, 9, 5}, {5, 5, 9}};
  using Pairs = std::vector<std::vector<int64_t>>;
  EXPECT_EQ(frequent_pairs(counts, 9), (Pairs{{0, 2, 5}, {1, 2, 5}, {0, 1, 1}}));
  EXPECT_EQ(frequent_pairs(counts, 1), (Pairs{{0, 2, 5}}));
}

}  // namespace
}  // namespace switchyard
