#include "parallel/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "model/accounting.h"
#include "tests/support/configs.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

// 704 parameters that every rank has (embedding 11 * 8, two layers of attention 4 * 8^2, norms 16 and router 4 * 8, the
// last norm 8), and 960 of experts (two layers of 4 * 3 * 8 * 5). Eight micro-batches of 12 tokens.
Config example(std::vector<std::string> overrides = {}) {
  overrides.insert(overrides.begin(),
                   {"model.tie_word_embeddings=true", "training.seq_length=6", "training.micro_batch_size=2",
                    "training.global_batch_size=16", "moe.aux_loss_scope=micro_batch"});
  return tiny_moe_config(overrides);
}

TEST(Plan, LayoutsThatArePossible) {
  std::vector<std::string> found;
  for (const RankLayout& layout : possible_layouts(example(), 8)) {
    found.push_back(std::to_string(layout.expert_parallel) + (layout.distributed_optimizer ? "s" : ""));
  }
  EXPECT_THAT(found, testing::ElementsAre("1", "1s", "2", "2s", "4", "4s"));  // 8 does not divide 4 experts
  EXPECT_EQ(possible_layouts(example(), 1).size(), 1U);
  EXPECT_EQ(possible_layouts(example({"moe=null"}), 4).size(), 2U);
  try {
    possible_layouts(example(), 3);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("8 micro-batches"));
    EXPECT_THAT(error.what(), HasSubstr("a multiple of 6"));
  }
}

TEST(Plan, StateByHand) {
  const RankMemory whole = plan_memory(example(), {.ranks = 4, .expert_parallel = 2});
  EXPECT_DOUBLE_EQ(whole.weights, 4 * (704 + 480));
  EXPECT_DOUBLE_EQ(whole.gradients, 4 * (704 + 480));
  EXPECT_DOUBLE_EQ(whole.optimizer, 8 * (704 + 480));
  EXPECT_DOUBLE_EQ(whole.buckets, 4 * (704 + 480));
  EXPECT_DOUBLE_EQ(whole.sums, 0);
  const RankMemory sharded = plan_memory(example(), {.ranks = 4, .expert_parallel = 2, .distributed_optimizer = true});
  EXPECT_DOUBLE_EQ(sharded.weights, whole.weights);
  EXPECT_DOUBLE_EQ(sharded.optimizer, 8 * (704 / 4.0 + 480 / 2.0));
  EXPECT_DOUBLE_EQ(sharded.buckets, 4 * (704 + 480 + 704 / 4.0 + 480 / 2.0));
  EXPECT_DOUBLE_EQ(sharded.sums, 4 * (704 + 480));
  // Experts that one rank alone holds are in no bucket.
  EXPECT_DOUBLE_EQ(plan_memory(example(), {.ranks = 4, .expert_parallel = 4}).buckets, 4 * 704);
  const RankMemory alone = plan_memory(example(), {});
  EXPECT_DOUBLE_EQ(alone.buckets, 0);
  EXPECT_DOUBLE_EQ(alone.peak, estimate_memory(example()).total);
  EXPECT_DOUBLE_EQ(alone.worst, alone.peak);
  // On a GPU sums are made where they arrive.
  const Config cuda = example({"training.device=cuda"});
  EXPECT_DOUBLE_EQ(plan_memory(cuda, {.ranks = 4, .distributed_optimizer = true}).sums, 0);
}

TEST(Plan, WorstRoutingByHand) {
  const auto imbalance = [](const std::vector<std::string>& overrides, int64_t expert_parallel) {
    const RankMemory memory = plan_memory(example(overrides), {.ranks = 4, .expert_parallel = expert_parallel});
    return memory.worst - memory.peak;
  };
  EXPECT_DOUBLE_EQ(imbalance({}, 1), 0);
  EXPECT_GT(imbalance({}, 2), 0);
  // Every expert has one token in four here, whatever they are.
  EXPECT_DOUBLE_EQ(imbalance({"moe.router.type=expert_choice"}, 2), 0);
  EXPECT_DOUBLE_EQ(imbalance({"moe.capacity_factor=1.0"}, 2), 0);
  EXPECT_LT(imbalance({"moe.capacity_factor=1.25"}, 2), imbalance({}, 2));
}

TEST(Plan, BytesByHand) {
  const RankTraffic whole = plan_traffic(example(), {.ranks = 4, .expert_parallel = 2});
  // All-reduces: twice three quarters of 704 parameters over 4 ranks, twice a half of 480 over 2.
  EXPECT_DOUBLE_EQ(whole.gradients, 2 * 4 * (704 * 0.75 + 480 * 0.5));
  EXPECT_DOUBLE_EQ(whole.parameters, 0);
  // 2 micro-batches, 2 layers: half of 24 rows of 32 bytes leave, four times; half of 4 counts, once.
  EXPECT_DOUBLE_EQ(whole.dispatch, 2 * 2 * (4 * 12 * 32 + 2 * 8));
  const RankTraffic sharded =
      plan_traffic(example(), {.ranks = 4, .expert_parallel = 2, .distributed_optimizer = true});
  EXPECT_DOUBLE_EQ(sharded.gradients, whole.gradients / 2);
  EXPECT_DOUBLE_EQ(sharded.parameters, whole.gradients / 2);
  EXPECT_DOUBLE_EQ(sharded.dispatch, whole.dispatch);
  // A pass without gradients counts the load of the whole batch first: two more ways and its counts. With one
  // micro-batch a rank it is not needed.
  const Config global = example({"moe.aux_loss_scope=global_batch"});
  EXPECT_DOUBLE_EQ(plan_traffic(global, {.ranks = 4, .expert_parallel = 2}).dispatch,
                   2 * 2 * (6 * 12 * 32 + 2 * 2 * 8));
  EXPECT_DOUBLE_EQ(plan_traffic(global, {.ranks = 8, .expert_parallel = 2}).dispatch, 2 * (4 * 12 * 32 + 2 * 8));
  // Nor where the balancing loss can't change the choices.
  const Config hash = example({"moe.aux_loss_scope=global_batch", "moe.router=hash"});
  EXPECT_DOUBLE_EQ(plan_traffic(hash, {.ranks = 4, .expert_parallel = 2}).dispatch, whole.dispatch);
  // Blocks that run again send their rows and counts again.
  EXPECT_DOUBLE_EQ(plan_traffic(example({"training.recompute=full"}), {.ranks = 4, .expert_parallel = 2}).dispatch,
                   2 * 2 * (6 * 12 * 32 + 2 * 2 * 8));
  EXPECT_DOUBLE_EQ(plan_traffic(example({"training.recompute=selective"}), {.ranks = 4, .expert_parallel = 2}).dispatch,
                   whole.dispatch);
  EXPECT_DOUBLE_EQ(plan_traffic(example(), {}).total(), 0);
  EXPECT_DOUBLE_EQ(plan_traffic(example({"moe=null"}), {.ranks = 2}).dispatch, 0);
  // A row of bf16 is half as large; capacity for half of the choices sends half of them.
  const RankLayout two{.ranks = 4, .expert_parallel = 2};
  EXPECT_DOUBLE_EQ(plan_traffic(example({"training.precision=bf16"}), two).dispatch, 2 * 2 * (4 * 12 * 16 + 2 * 8));
  EXPECT_DOUBLE_EQ(plan_traffic(example({"moe.capacity_factor=0.5"}), two).dispatch, 2 * 2 * (4 * 6 * 32 + 2 * 8));
}

constexpr RankResources kTwoANode{.ranks_per_node = 2,
                                  .memory = 1e9,
                                  .flops = 1e8,
                                  .efficiency = 0.5,
                                  .intra_bandwidth = 1e6,
                                  .inter_bandwidth = 1e5};

TEST(Plan, TimeByHand) {
  const double compute = training_flops_per_token(example()) * 24 / 5e7;
  const RankLayout pair{.ranks = 4, .expert_parallel = 2};
  const RankTraffic bytes = plan_traffic(example(), pair);
  const StepTime time = plan_time(example(), pair, kTwoANode);
  EXPECT_DOUBLE_EQ(time.compute, compute);
  // The two ranks of a group share a node, but sums go over both nodes.
  EXPECT_DOUBLE_EQ(time.communication, bytes.dispatch / 1e6 + (bytes.gradients + bytes.statistics) / 1e5);
  // One of two micro-batches' backward is two thirds of half of the computation; no shared experts hide the rows.
  EXPECT_DOUBLE_EQ(time.hidden, std::min(bytes.gradients / 1e5, compute / 3));
  EXPECT_DOUBLE_EQ(time.total(), time.compute + time.communication - time.hidden);
  const Config full = example({"training.recompute=full"});
  EXPECT_DOUBLE_EQ(plan_time(full, pair, kTwoANode).compute, compute + recomputed_flops_per_token(full) * 24 / 5e7);

  // Of a group of four one other rank is near and two are far: two thirds of the bytes take the slow way.
  const RankLayout four{.ranks = 4, .expert_parallel = 4};
  const RankTraffic more = plan_traffic(example(), four);
  EXPECT_DOUBLE_EQ(plan_time(example(), four, kTwoANode).communication,
                   more.dispatch * 2 / 3 / 1e5 + (more.gradients + more.statistics) / 1e5);
  EXPECT_DOUBLE_EQ(plan_time(example(), {}, kTwoANode).total(), 4 * compute);
  // Shared experts hide one of two ways, forward and backward, of all layers.
  const Config shared = example({"moe.num_shared_experts=1", "model.hidden_size=64"});
  const StepTime with_shared = plan_time(shared, pair, kTwoANode);
  const double beside = 2 * 2.0 * 3 * 64 * 5 * 12 / 5e7;
  const double way = plan_traffic(shared, pair).dispatch / 8 / 1e6;
  EXPECT_NEAR(with_shared.hidden,
              2 * (std::min(way, beside) + std::min(way, 2 * beside)) +
                  std::min(plan_traffic(shared, pair).gradients / 1e5, with_shared.compute / 3),
              1e-12);
}

TEST(Plan, TheBestLayout) {
  const auto plan = [](double memory, double bandwidth) {
    RankResources resources = kTwoANode;
    resources.memory = memory;
    resources.intra_bandwidth = resources.inter_bandwidth = bandwidth;
    return make_plan(example(), 4, resources);
  };
  const Plan roomy = plan(1e9, 1e5);
  EXPECT_THAT(roomy.reason, HasSubstr("fits however tokens are routed"));
  for (const PlannedLayout& planned : roomy.layouts) {
    EXPECT_TRUE(planned.always_fits);
    EXPECT_GE(planned.time.total(), roomy.layouts[roomy.best].time.total() * 0.999);
  }
  // Where bytes cost nothing, all are as fast, and the smallest is taken.
  const Plan free = plan(1e9, 1e18);
  for (const PlannedLayout& planned : free.layouts) {
    EXPECT_GE(planned.memory.worst, free.layouts[free.best].memory.worst);
  }
  const Plan cramped = plan(10, 1e5);
  EXPECT_THAT(cramped.reason, HasSubstr("no layout fits"));
  for (const PlannedLayout& planned : cramped.layouts) {
    EXPECT_FALSE(planned.fits);
    EXPECT_GE(planned.memory.peak, cramped.layouts[cramped.best].memory.peak);
  }
  // Room for some layouts while experts are used evenly, for none otherwise.
  double least_worst = 1e9;
  for (const PlannedLayout& planned : roomy.layouts) least_worst = std::min(least_worst, planned.memory.worst);
  const Plan even = plan(least_worst - 1, 1e5);
  const PlannedLayout& chosen = even.layouts[even.best];
  EXPECT_FALSE(chosen.always_fits);
}

}  // namespace
}  // namespace switchyard::test
