#include "metrics/information.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"

namespace switchyard {
namespace {

std::vector<double> row_sums(const CountTable& counts) {
  std::vector<double> sums;
  for (const auto& row : counts) sums.push_back(std::accumulate(row.begin(), row.end(), 0.0));
  return sums;
}

std::vector<double> column_sums(const CountTable& counts) {
  std::vector<double> sums(counts.empty() ? 0 : counts[0].size(), 0.0);
  for (const auto& row : counts) std::transform(row.begin(), row.end(), sums.begin(), sums.begin(), std::plus<>());
  return sums;
}

// Fisher and Yates' shuffle, drawn from (seed, round, place).
void shuffle(std::vector<int32_t>& labels, uint64_t seed, uint64_t round) {
  for (size_t i = labels.size(); i > 1; --i) {
    std::swap(labels[i - 1], labels[random_word(seed, RandomPurpose::kShuffling, {round, i}) % i]);
  }
}

}  // namespace

double entropy_in_nats(std::span<const double> counts) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double entropy = 0;
  for (const double count : counts) {
    if (count > 0) entropy -= count / total * std::log(count / total);
  }
  return entropy;
}

double mutual_information(const CountTable& counts) {
  const std::vector<double> rows = row_sums(counts);
  const std::vector<double> columns = column_sums(counts);
  const double total = std::accumulate(rows.begin(), rows.end(), 0.0);
  double information = 0;
  for (size_t r = 0; r < counts.size(); ++r) {
    for (size_t c = 0; c < counts[r].size(); ++c) {
      const double count = counts[r][c];
      if (count > 0) information += count / total * std::log(count / rows[r] * (total / columns[c]));
    }
  }
  return std::max(0.0, information);  // rounding may leave -1e-17
}

double explained_share(const CountTable& counts) {
  const double rows = entropy_in_nats(row_sums(counts));
  return rows > 0 ? std::min(1.0, mutual_information(counts) / rows) : 0.0;
}

CountTable count_choices_by_label(const LabelledChoices& units) {
  CountTable counts(static_cast<size_t>(units.num_labels),
                    std::vector<double>(static_cast<size_t>(units.num_choices), 0.0));
  for (size_t u = 0; u < units.labels.size(); ++u) {
    std::vector<double>& row = counts[static_cast<size_t>(units.labels[u])];
    for (int64_t i = units.begin[u]; i < units.begin[u + 1]; ++i) {
      ++row[static_cast<size_t>(units.choices[static_cast<size_t>(i)])];
    }
  }
  return counts;
}

PermutationBaseline permutation_baseline(const LabelledChoices& units, int64_t shufflings, uint64_t seed) {
  const double observed = mutual_information(count_choices_by_label(units));
  PermutationBaseline baseline;
  int64_t reaching = 0;
  LabelledChoices shuffled = units;
  for (int64_t round = 0; round < shufflings; ++round) {
    shuffle(shuffled.labels, seed, static_cast<uint64_t>(round));
    const double information = mutual_information(count_choices_by_label(shuffled));
    baseline.mean += information / static_cast<double>(shufflings);
    baseline.highest = std::max(baseline.highest, information);
    // Tables that are equal but for their order differ by rounding.
    if (information >= observed * (1 - 1e-12)) ++reaching;
  }
  baseline.p_value = (1.0 + static_cast<double>(reaching)) / (1.0 + static_cast<double>(shufflings));
  return baseline;
}

}  // namespace switchyard
