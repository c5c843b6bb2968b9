// What tests of whole models share.
#pragma once

#include "tests/support/models.h"

namespace switchyard::test {

// tokens [B, S] -> logits [B, S, V], without gradient.
inline torch::Tensor logits_of(Transformer& model, const torch::Tensor& tokens, KvCache* cache = nullptr) {
  const torch::NoGradGuard no_grad;
  return model->logits(model->forward(tokens, cache).hidden).view({tokens.size(0), tokens.size(1), -1});
}

// That a cache that is filled piece by piece gives the logits of the whole, and holds no more than it has room for.
inline void expect_cache_equals_forward(const Config& config) {
  Transformer model = make_model(config);
  model->eval();
  const torch::NoGradGuard no_grad;
  const torch::Tensor tokens = random_tokens(config, 2, 8);
  const torch::Tensor expected = logits_of(model, tokens);
  KvCache cache = model->make_cache(2, 8);
  int64_t begin = 0;
  for (const int64_t count : {3, 2, 1, 1, 1}) {  // a prompt, a second prompt, then token by token
    EXPECT_TRUE(close(logits_of(model, tokens.narrow(1, begin, count), &cache), expected.narrow(1, begin, count)))
        << begin;
    begin += count;
  }
  EXPECT_EQ(cache.length, 8);
  EXPECT_THROW(model->forward(tokens.narrow(1, 0, 1), &cache), c10::ValueError);
}

}  // namespace switchyard::test
