// Attention of one sequence as its formula says, a query at a time.
// Legend: S sequence, H query heads, G key/value heads.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "ops/torch.h"

namespace switchyard::test {

// x [n] turned as the rotary embedding turns a vector at `position`: the two halves form the pairs.
inline torch::Tensor naive_rotate(const torch::Tensor& x, int64_t position, double theta) {
  const int64_t half = x.size(0) / 2;
  torch::Tensor y = torch::empty_like(x);
  for (int64_t i = 0; i < half; ++i) {
    const double angle =
        static_cast<double>(position) * std::pow(theta, -static_cast<double>(i) / static_cast<double>(half));
    y[i] = x[i] * std::cos(angle) - x[i + half] * std::sin(angle);
    y[i + half] = x[i + half] * std::cos(angle) + x[i] * std::sin(angle);
  }
  return y;
}

// query [S, H, n], key [S, G, n], value [S, G, m] -> [S, H m].
inline torch::Tensor naive_attention(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                                     std::optional<int64_t> window = std::nullopt,
                                     std::optional<double> softcap = std::nullopt) {
  const int64_t group = query.size(1) / key.size(1);
  torch::Tensor y = torch::zeros({query.size(0), query.size(1), value.size(2)}, query.options());
  for (int64_t s = 0; s < query.size(0); ++s) {
    for (int64_t h = 0; h < query.size(1); ++h) {
      std::vector<torch::Tensor> scores;
      std::vector<torch::Tensor> values;
      for (int64_t past = 0; past <= s; ++past) {
        if (window && s - past >= *window) continue;
        auto score = torch::dot(query[s][h], key[past][h / group]) / std::sqrt(static_cast<double>(query.size(2)));
        if (softcap) score = *softcap * torch::tanh(score / *softcap);
        scores.push_back(score);
        values.push_back(value[past][h / group]);
      }
      const auto shares = torch::softmax(torch::stack(scores), 0);
      for (size_t i = 0; i < values.size(); ++i) y[s][h] += shares[static_cast<int64_t>(i)] * values[i];
    }
  }
  return y.flatten(1);
}

inline torch::Tensor naive_rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  return x / (x.square().mean(-1, true) + eps).sqrt() * weight;
}

}  // namespace switchyard::test
