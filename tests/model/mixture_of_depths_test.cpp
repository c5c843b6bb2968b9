// Models some of whose blocks are passed by some tokens only.
#include <functional>

#include "model/transformer.h"
#include "tests/support/naive_attention.h"
#include "tests/support/whole_models.h"

namespace switchyard::test::mixture_of_depths_test {
namespace {

using torch::Tensor;

// Three layers, of which layer 1 is passed by some tokens.
std::vector<std::string> with_depth(double capacity_factor, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"model.num_layers=3", "mixture_of_depths.layer_freq=[0,1,0]",
                             "mixture_of_depths.capacity_factor=" + std::to_string(capacity_factor)});
  return more;
}
Config depth_config(double capacity_factor, std::vector<std::string> more = {}) {
  return tiny_config(with_depth(capacity_factor, std::move(more)));
}

void set_parameter(Transformer& model, const std::string& name, double value) {
  const torch::NoGradGuard no_grad;
  parameter_of(*model, name).fill_(value);
}

const std::string kDepth = "layers.1.depth.";

// What a dense block adds to the tokens `places` of one sequence x [S, D], as if there were no others; a query, a key
// and a token at a time. Returns one row for each place.
std::vector<Tensor> naive_block(const Transformer& model, int64_t layer, const Tensor& x,
                                const std::vector<int64_t>& places) {
  const ModelConfig& config = model->config().model;
  const int64_t heads = config.num_attention_heads, width = *config.head_dim;
  const auto p = [&](const std::string& name) {
    return parameter_of(*model, "layers." + std::to_string(layer) + "." + name);
  };
  const auto norm = [&](const Tensor& row, const Tensor& weight) {
    return row / (row.square().mean() + config.norm_eps).sqrt() * weight;
  };
  const auto joint = [&](int64_t place) {
    return torch::mv(p("attention.qkv_proj"), norm(x[place], p("attention_norm"))).view({3, heads, width});
  };
  std::vector<Tensor> added;
  for (const int64_t place : places) {
    std::vector<Tensor> mixed;
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<Tensor> scores, values;
      for (const int64_t past : places) {
        if (past > place) continue;
        const Tensor key = naive_rotate(joint(past)[1][h], past, config.rope_theta);
        scores.push_back(torch::dot(naive_rotate(joint(place)[0][h], place, config.rope_theta), key) /
                         std::sqrt(static_cast<double>(width)));
        values.push_back(joint(past)[2][h]);
      }
      mixed.push_back(torch::mv(torch::stack(values, 1), torch::softmax(torch::stack(scores), 0)));
    }
    const Tensor attended = torch::mv(p("attention.o_proj"), torch::cat(mixed));
    const Tensor fed =
        naive_expert(norm(x[place] + attended, p("feed_forward_norm")), p("mlp.gate_up_proj"), p("mlp.down_proj"));
    added.push_back(attended + fed);
  }
  return added;
}

// The logits of one sequence [S] -> [S, V], a token at a time. `choose` gets the scores of the router and of the
// predictor and says who passes.
using Choice = std::function<std::vector<int64_t>(const std::vector<double>& r, const std::vector<double>& p)>;
Tensor naive_logits(const Transformer& model, const Tensor& tokens, const Choice& choose) {
  const ModelConfig& config = model->config().model;
  Tensor x = parameter_of(*model, "embed_tokens").index_select(0, tokens);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    std::vector<int64_t> places;
    std::vector<double> r(static_cast<size_t>(x.size(0)), 1.0), p;
    for (int64_t s = 0; s < x.size(0); ++s) {
      places.push_back(s);
      if (layer != 1) continue;
      r[static_cast<size_t>(s)] = torch::dot(parameter_of(*model, kDepth + "weight")[0], x[s]).item<double>();
      p.push_back((torch::dot(parameter_of(*model, kDepth + "predictor_weight")[0], x[s]) +
                   parameter_of(*model, kDepth + "predictor_bias")[0])
                      .item<double>());
    }
    if (layer == 1) places = choose(r, p);
    const auto added = naive_block(model, layer, x, places);
    Tensor next = x.clone();
    for (size_t i = 0; i < places.size(); ++i) next[places[i]] += r[static_cast<size_t>(places[i])] * added[i];
    x = next;
  }
  const Tensor scale = (x.square().mean(-1, true) + config.norm_eps).sqrt();
  return torch::mm(x / scale * parameter_of(*model, "norm"), parameter_of(*model, "embed_tokens").t());
}

// Those with the largest scores, a place at a time.
Choice best(int64_t count) {
  return [=](const std::vector<double>& r, const std::vector<double>&) {
    std::vector<int64_t> places;
    for (size_t s = 0; s < r.size(); ++s) {
      int64_t larger = 0;
      for (size_t other = 0; other < r.size(); ++other) larger += r[other] > r[s] ? 1 : 0;
      if (larger < count) places.push_back(static_cast<int64_t>(s));
    }
    return places;
  };
}

TEST(MixtureOfDepths, TrainingEqualsALoopOverTokens) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  for (const auto& [factor, count] : std::vector<std::pair<double, int64_t>>{{0.5, 4}, {0.3, 3}, {0.01, 1}, {1, 7}}) {
    const Config config = depth_config(factor);
    Transformer model = make_model(config);
    const Tensor tokens = random_tokens(config, 3, 7);
    const Tensor logits = logits_of(model, tokens);
    for (int64_t b = 0; b < 3; ++b) EXPECT_TRUE(close(logits[b], naive_logits(model, tokens[b], best(count))));
  }
}

TEST(MixtureOfDepths, EvaluationEqualsALoopOverTokens) {
  const OneThread one_thread;
  const torch::NoGradGuard no_grad;
  const Config config = depth_config(0.5);
  Transformer model = make_model(config);
  model->eval();
  const Tensor tokens = random_tokens(config, 3, 7);
  const Tensor logits = logits_of(model, tokens);
  const Choice positive = [](const std::vector<double>&, const std::vector<double>& p) {
    std::vector<int64_t> places;
    for (size_t s = 0; s < p.size(); ++s) {
      if (p[s] > 0) places.push_back(static_cast<int64_t>(s));
    }
    return places;
  };
  for (int64_t b = 0; b < 3; ++b) EXPECT_TRUE(close(logits[b], naive_logits(model, tokens[b], positive)));
  const Tensor passed = model->forward(tokens).depths.at(0).passed;
  EXPECT_TRUE(passed.any().item<bool>());
  EXPECT_FALSE(passed.all().item<bool>());
}

TEST(MixtureOfDepths, ThePlainBlockTimesTheWeightWhenAllPass) {
  // A block on its own, so that what goes in and what is added can be told apart.
  const torch::NoGradGuard no_grad;
  const Config config = depth_config(1.0, {"model.num_layers=2", "mixture_of_depths.layer_freq=[0,1]"});
  Block deep(config, 1), plain(config, 0);
  deep->to(kF64);
  plain->to(kF64);
  uint64_t seed = 1;
  for (auto& parameter : deep->parameters()) parameter.copy_(random_tensor(parameter.sizes(), seed++));
  for (auto& parameter : plain->named_parameters()) parameter.value().copy_(parameter_of(*deep, parameter.key()));
  LocalDispatcher dispatcher;
  std::vector<DepthOutput> depths;
  std::vector<RouterOutput> routers;
  const BlockImpl::Context context{.rotary = rotary_table(0, 5, 4, 100.0, torch::TensorOptions(kF64)),
                                   .dispatcher = &dispatcher,
                                   .capacity_factor = std::nullopt,
                                   .cache = nullptr,
                                   .token_ids = torch::zeros({10}, torch::kInt64),
                                   .positions = torch::arange(5).repeat({2}),
                                   .num_sequences = 2,
                                   .depths = &depths};
  const Tensor x = random_tensor({2, 5, 8}, 50);
  const Tensor f = plain->forward(x, context, routers) - x;
  const Tensor y = deep->forward(x, context, routers);
  EXPECT_TRUE(close(y, x + depths.at(0).logits.unsqueeze(-1) * f));
  EXPECT_TRUE(depths[0].passed.all().item<bool>());
}

TEST(MixtureOfDepths, NobodyPassesOrEverybodyDoes) {
  const Config config = depth_config(1.0);
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 6);
  const Tensor all = logits_of(model, tokens);
  model->eval();
  set_parameter(model, kDepth + "predictor_bias", 100);
  EXPECT_TRUE(identical(logits_of(model, tokens), all));  // capacity 1 in training
  set_parameter(model, kDepth + "predictor_bias", -100);
  const Tensor none = logits_of(model, tokens);
  EXPECT_FALSE(close(none, all));
  // The model without that block.
  Transformer shallow = make_model(tiny_config());
  {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : shallow->named_parameters()) {
      std::string name = parameter.key();
      if (name.starts_with("layers.1.")) name[7] = '2';
      parameter.value().copy_(parameter_of(*model, name));
    }
  }
  EXPECT_TRUE(identical(logits_of(shallow, tokens), none));
  // The same with a cache, of which that block uses nothing.
  KvCache cache = model->make_cache(1, 6);
  const torch::NoGradGuard no_grad;
  const Tensor cached = model->logits(model->forward(tokens.narrow(0, 0, 1), &cache).hidden);
  EXPECT_TRUE(close(cached, none[0]));
  EXPECT_EQ(cache.layers[0].length, 6);
  EXPECT_EQ(cache.layers[1].length, 0);
}

TEST(MixtureOfDepths, OneTokenIsASequenceToo) {
  for (const auto& config : {depth_config(0.125), tiny_moe_config(with_depth(0.125))}) {
    Transformer model = make_model(config);
    for (const bool training : {true, false}) {
      model->train(training);
      EXPECT_TRUE(logits_of(model, random_tokens(config, 2, 1)).isfinite().all().item<bool>());
    }
  }
}

TEST(MixtureOfDepths, LaterTokensDoNotReachEarlierPositionsInEvaluation) {
  for (const auto& config : {depth_config(0.5), tiny_moe_config(with_depth(0.5))}) {
    Transformer model = make_model(config);
    Tensor tokens = random_tokens(config, 4, 8);
    const auto run = [&] { return std::pair(logits_of(model, tokens), model->forward(tokens).depths.at(0)); };
    model->eval();
    const auto [before, decided_before] = run();
    model->train();
    const Tensor trained = logits_of(model, tokens);
    tokens.narrow(1, 5, 3).copy_((tokens.narrow(1, 5, 3) + 4) % 11);
    // In training whether a token passes is a matter of all others.
    EXPECT_FALSE(close(logits_of(model, tokens).narrow(1, 0, 5), trained.narrow(1, 0, 5)));
    model->eval();
    const auto [after, decided_after] = run();
    EXPECT_TRUE(close(after.narrow(1, 0, 5), before.narrow(1, 0, 5)));
    EXPECT_TRUE(identical(decided_after.passed.narrow(1, 0, 5), decided_before.passed.narrow(1, 0, 5)));
    EXPECT_FALSE(close(after.narrow(1, 5, 3), before.narrow(1, 5, 3)));
  }
}

TEST(MixtureOfDepths, AnotherSequenceOfTheBatchChangesNothing) {
  const Config config = depth_config(0.4);
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 3, 8);
  for (const bool training : {true, false}) {
    model->train(training);
    EXPECT_TRUE(close(logits_of(model, tokens.narrow(0, 1, 1))[0], logits_of(model, tokens)[1]));
  }
}

void expect_cache_equals_forward(const Config& config) {
  Transformer model = make_model(config);
  model->eval();
  const torch::NoGradGuard no_grad;
  int64_t passed = 0;
  for (const uint64_t seed : {1, 2, 3}) {
    const Tensor tokens = random_tokens(config, 1, 9, seed);
    const Tensor expected = logits_of(model, tokens);
    KvCache cache = model->make_cache(1, 9);
    int64_t begin = 0;
    for (const int64_t count : {4, 2, 1, 1, 1}) {
      const auto output = model->forward(tokens.narrow(1, begin, count), &cache);
      EXPECT_TRUE(close(model->logits(output.hidden).view({1, count, -1}), expected.narrow(1, begin, count))) << begin;
      begin += count;
    }
    EXPECT_EQ(cache.layers[1].length, model->forward(tokens).depths.at(0).passed.sum().item<int64_t>());
    passed += cache.layers[1].length;
  }
  EXPECT_GT(passed, 0);
  EXPECT_LT(passed, 27);
}

TEST(MixtureOfDepths, CachedGenerationEqualsTheFullForward) {
  expect_cache_equals_forward(depth_config(0.5));
  expect_cache_equals_forward(depth_config(
      0.5, {"model.num_attention_heads=4", "model.num_key_value_heads=2", "model.head_dim=4", "model.qk_norm=head"}));
  expect_cache_equals_forward(tiny_moe_config(with_depth(0.5)));
}

TEST(MixtureOfDepths, ACacheHoldsOneSequence) {
  const Config config = depth_config(0.5);
  Transformer model = make_model(config);
  KvCache cache = model->make_cache(2, 4);
  EXPECT_THROW(model->forward(random_tokens(config, 2, 4), &cache), c10::ValueError);
}

TEST(MixtureOfDepths, ExpertsSeeTheTokensThatPass) {
  const Config config = tiny_moe_config(with_depth(0.5, {"moe.capacity_factor=1", "moe.eval_capacity_factor=1"}));
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 3, 7);
  const auto trained = model->forward(tokens);
  ASSERT_EQ(trained.routers.size(), 3U);
  EXPECT_EQ(trained.routers[1].logits.size(0), 3 * 4);
  EXPECT_EQ(trained.routers[2].logits.size(0), 3 * 7);
  EXPECT_EQ(trained.routers[1].kept.sizes(), (std::vector<int64_t>{3 * 4, 2}));
  // In evaluation those that skip the block are no assignments and take nobody's place.
  model->eval();
  const auto evaluated = model->forward(tokens);
  const Tensor passed = evaluated.depths.at(0).passed;
  const RouterOutput& routing = evaluated.routers[1];
  EXPECT_EQ(routing.chosen.sum().item<int64_t>(), 2 * passed.sum().item<int64_t>());
  EXPECT_FALSE(routing.kept.logical_and(routing.chosen.logical_not()).any().item<bool>());
  EXPECT_EQ(tokens_per_expert(routing).sum().item<int64_t>(), 2 * passed.sum().item<int64_t>());
}

// A loss that reaches every parameter.
Tensor loss_of(Transformer& model, const Tensor& tokens) {
  const auto output = model->forward(tokens);
  const Tensor logits = torch::log_softmax(model->logits(output.hidden).to(kF64), -1);
  return torch::nll_loss(logits, tokens.roll(-1, 1).flatten()) + output.depths.at(0).predictor_logits.square().mean();
}

TEST(MixtureOfDepths, TheSameStepTwiceGivesTheSameBits) {
  for (const auto type : {kF32, kBf16}) {
    const Config config = tiny_moe_config(with_depth(0.5));
    Transformer model = make_model(config, kF32);
    model->set_compute_type(type);
    const Tensor tokens = random_tokens(config, 4, 32);
    const auto run = [&] {
      torch::manual_seed(3);
      const Tensor loss = loss_of(model, tokens);
      auto all = torch::autograd::grad({loss}, model->parameters());
      all.push_back(loss.detach());
      return all;
    };
    const auto first = run();
    const auto second = run();
    for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(identical(first[i], second[i])) << i;
  }
}

TEST(MixtureOfDepths, Bfloat16IsNearFloat32) {
  // All pass: a choice by rank may differ where two weights are close.
  const Config config = tiny_moe_config(with_depth(1.0, {"model.init_std=0.1"}));
  Transformer model = make_model(config, kF32);
  set_parameter(model, kDepth + "weight", 2.0);
  const Tensor tokens = random_tokens(config, 2, 6);
  const double wide = loss_of(model, tokens).item<double>();
  model->set_compute_type(kBf16);
  EXPECT_EQ(model->forward(tokens).hidden.scalar_type(), kBf16);
  EXPECT_NEAR(loss_of(model, tokens).item<double>(), wide, 0.02 * wide);
}

TEST(MixtureOfDepths, InitialisationAndCasts) {
  const Config config = depth_config(0.5, {"model.hidden_size=512", "model.init_std=0.03"});
  Transformer model(config);
  model->initialise(1);
  EXPECT_NEAR(parameter_of(*model, kDepth + "weight").std().item<double>(), 0.03, 0.004);
  EXPECT_NEAR(parameter_of(*model, kDepth + "predictor_weight").std().item<double>(), 0.03, 0.004);
  EXPECT_TRUE(identical(parameter_of(*model, kDepth + "predictor_bias"), torch::zeros({1})));
  EXPECT_FALSE(model->named_parameters().contains("layers.0.depth.weight"));
  model->set_compute_type(kBf16);
  const Tensor tokens = random_tokens(config, 2, 6);
  const Tensor before = logits_of(model, tokens);
  model->cast_matrices();
  EXPECT_EQ(parameter_of(*model, kDepth + "weight").scalar_type(), kF32);
  EXPECT_EQ(parameter_of(*model, kDepth + "predictor_weight").scalar_type(), kF32);
  EXPECT_TRUE(identical(logits_of(model, tokens), before));
}

TEST(MixtureOfDepths, DropoutIsSeeded) {
  const Config config = depth_config(0.5, {"model.dropout=0.3"});
  Transformer model = make_model(config);
  const Tensor tokens = random_tokens(config, 2, 6);
  torch::manual_seed(1);
  const Tensor first = logits_of(model, tokens);
  EXPECT_FALSE(torch::equal(logits_of(model, tokens), first));
  torch::manual_seed(1);
  EXPECT_TRUE(torch::equal(logits_of(model, tokens), first));
}

}  // namespace
}  // namespace switchyard::test::mixture_of_depths_test
