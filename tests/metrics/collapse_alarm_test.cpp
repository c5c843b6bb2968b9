#include "metrics/collapse_alarm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace switchyard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Statistics of a layer that sent `counts` of `tokens` tokens to its experts; `idle` as steps_since_used, window 100.
RoutingStatistics layer_of(const std::vector<double>& counts, int64_t tokens, std::vector<int64_t> idle = {}) {
  idle.resize(counts.size(), 0);
  return routing_statistics(counts, std::vector<double>(counts.size(), 0.0), 0, tokens, 0, idle, 100);
}

AlarmConfig config_of(int64_t patience) {
  AlarmConfig config;
  config.patience = patience;
  return config;
}

TEST(OverloadLimit, LiesBetweenTheFairShareAndAllTokens) {
  EXPECT_DOUBLE_EQ(overload_limit({}, 2, 8), 0.625);  // 1/4 + 1/2 of 3/4
  EXPECT_DOUBLE_EQ(overload_limit({}, 2, 4), 0.75);
  EXPECT_GT(overload_limit({}, 4, 4), 1);
}

TEST(CollapseAlarm, SoundsOnceAfterPatienceStepsAndAgainAfterAPause) {
  CollapseAlarm alarm(config_of(3));
  const RoutingStatistics collapsed = layer_of({100, 90, 5, 5}, 100);
  const RoutingStatistics healthy = layer_of({60, 50, 50, 40}, 100);
  std::vector<int64_t> sounded;
  const std::vector<int> plan = {1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1};
  for (size_t step = 0; step < plan.size(); ++step) {
    const auto found = alarm.judge(4, plan[step] ? collapsed : healthy);
    if (found.empty()) continue;
    sounded.push_back(static_cast<int64_t>(step));
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_EQ(found[0].kind, CollapseKind::kLoad);
    EXPECT_EQ(found[0].layer, 4);
    EXPECT_THAT(found[0].experts, ElementsAre(0));
    EXPECT_DOUBLE_EQ(found[0].share, 1.0);
    EXPECT_DOUBLE_EQ(found[0].limit, 0.75);
  }
  EXPECT_THAT(sounded, ElementsAre(5, 11));
}

TEST(CollapseAlarm, LayersAreCountedApart) {
  CollapseAlarm alarm(config_of(2));
  const RoutingStatistics collapsed = layer_of({10, 0, 0, 0}, 10);
  EXPECT_THAT(alarm.judge(0, collapsed), IsEmpty());
  EXPECT_THAT(alarm.judge(1, collapsed), IsEmpty());
  EXPECT_THAT(alarm.judge(0, collapsed), SizeIs(1));
}

TEST(CollapseAlarm, NamesTheDeadExperts) {
  CollapseAlarm alarm(config_of(1));
  EXPECT_THAT(alarm.judge(0, layer_of({50, 50, 50, 50, 50, 0}, 125, {0, 0, 0, 0, 99, 100})), IsEmpty());
  const auto found = alarm.judge(0, layer_of({25, 0, 25, 25, 0, 25, 0, 0}, 50, {0, 100, 0, 0, 250, 0, 100, 100}));
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].kind, CollapseKind::kDead);
  EXPECT_THAT(found[0].experts, ElementsAre(1, 4, 6, 7));
  EXPECT_DOUBLE_EQ(found[0].share, 0.5);
  EXPECT_EQ(describe_collapse(found[0]), "layer 0: 4 experts (50 %) see no tokens (alarm from 50 %): 1, 4, 6, 7");
}

TEST(CollapseAlarm, IsSilentWhereEveryExpertSeesEveryToken) {
  CollapseAlarm alarm(config_of(1));
  EXPECT_THAT(alarm.judge(0, layer_of({10, 10, 10}, 10)), IsEmpty());  // K = E
  EXPECT_THAT(alarm.judge(0, layer_of({10}, 10)), IsEmpty());
  EXPECT_THAT(alarm.judge(0, layer_of({0, 0}, 0)), IsEmpty());
}

TEST(CollapseAlarm, IsSilentOnTheNoiseOfABalancedLayer) {
  CollapseAlarm alarm(config_of(1));
  for (uint64_t step = 0; step < 500; ++step) {
    std::vector<double> counts(8, 0.0);
    for (uint64_t token = 0; token < 64; ++token) {
      const uint64_t word = random_word(step, RandomPurpose::kSampling, {token});
      const uint64_t first = word % 8;
      ++counts[first];
      ++counts[(first + 1 + word / 8 % 7) % 8];
    }
    EXPECT_THAT(alarm.judge(0, layer_of(counts, 64)), IsEmpty()) << step;
  }
}

TEST(CollapseAlarm, OffIsOff) {
  AlarmConfig config = config_of(1);
  config.action = AlarmAction::kOff;
  EXPECT_THAT(CollapseAlarm(config).judge(0, layer_of({10, 0, 0, 0}, 10)), IsEmpty());
}

TEST(Advice, DependsOnWhatTheConfigHas) {
  const Collapse load{CollapseKind::kLoad, 2, {7}, 0.9, 0.625};
  const Collapse dead{CollapseKind::kDead, 2, {1}, 0.5, 0.5};
  EXPECT_EQ(describe_collapse(load), "layer 2: expert 7 takes 90 % of the tokens (alarm from 62 %)");
  MoeConfig moe;
  moe.aux_loss_coeff = 0;
  EXPECT_THAT(advice_against(load, moe),
              HasSubstr("set moe.aux_loss_coeff=0.01 (now 0), or set moe.router.expert_bias"));
  EXPECT_THAT(advice_against(dead, moe), HasSubstr("fewer experts than moe.num_experts=8"));
  moe.aux_loss_coeff = 1e-4;
  EXPECT_THAT(advice_against(load, moe), HasSubstr("raise moe.aux_loss_coeff (now 0.0001)"));
  moe.aux_loss_coeff = 0.01;
  EXPECT_EQ(advice_against(load, moe),
            "lower optimizer.lr or lengthen schedule.warmup_steps, raise moe.aux_loss_coeff (now 0.01) towards 0.1, or "
            "set moe.router.expert_bias=true");
  moe.aux_loss_coeff = 1;  // more would cost quality and balance no better
  EXPECT_EQ(advice_against(load, moe),
            "lower optimizer.lr or lengthen schedule.warmup_steps, or set moe.router.expert_bias=true");
  moe.router.expert_bias = true;
  EXPECT_EQ(advice_against(load, moe),
            "raise moe.router.bias_rate (now 0.001), lower optimizer.lr or lengthen schedule.warmup_steps");
  moe.aux_loss_coeff = 0;
  EXPECT_EQ(advice_against(load, moe),
            "raise moe.router.bias_rate (now 0.001), or set moe.aux_loss_coeff=0.01 (now 0)");
  moe.router.type = RouterType::kNoisyTopK;
  moe.router.importance_coeff = 1;
  moe.router.load_coeff = 0.01;
  EXPECT_EQ(advice_against(load, moe), "raise moe.router.load_coeff (now 0.01) towards 0.1");
  moe.router.load_coeff = 1;
  EXPECT_EQ(advice_against(load, moe), "lower optimizer.lr or lengthen schedule.warmup_steps");
  moe.router.type = RouterType::kHash;
  EXPECT_THAT(advice_against(load, moe), HasSubstr("another moe.router.type"));
}

TEST(AlarmEvent, HoldsEveryField) {
  EXPECT_EQ(alarm_event(30, {CollapseKind::kLoad, 2, {7}, 0.875, 0.625}, "do this").dump(),
            R"({"event":"alarm","step":30,"layer":2,"kind":"load","experts":[7],"share":0.875,"limit":0.625,)"
            R"~("message":"layer 2: expert 7 takes 88 % of the tokens (alarm from 62 %)","advice":"do this"})~");
}

}  // namespace
}  // namespace switchyard
