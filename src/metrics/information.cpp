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

// One table of labels and choices per kind.
std::vector<CountTable> tables_by_kind(const KindedChoices& units, const std::vector<int32_t>& labels) {
  const CountTable empty(static_cast<size_t>(units.num_labels),
                         std::vector<double>(static_cast<size_t>(units.num_choices), 0.0));
  std::vector<CountTable> tables(static_cast<size_t>(units.num_kinds), empty);
  for (size_t u = 0; u < labels.size(); ++u) {
    for (int64_t part = units.part_begin[u]; part < units.part_begin[u + 1]; ++part) {
      const auto p = static_cast<size_t>(part);
      std::vector<double>& row = tables[static_cast<size_t>(units.kinds[p])][static_cast<size_t>(labels[u])];
      for (int64_t i = units.begin[p]; i < units.begin[p + 1]; ++i) {
        ++row[static_cast<size_t>(units.choices[static_cast<size_t>(i)])];
      }
    }
  }
  return tables;
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

PermutationBaseline permutation_baseline(const std::vector<int32_t>& labels, const LabelStatistic& information,
                                         int64_t shufflings, uint64_t seed) {
  const double observed = information(labels);
  PermutationBaseline baseline;
  int64_t reaching = 0;
  std::vector<int32_t> shuffled = labels;
  for (int64_t round = 0; round < shufflings; ++round) {
    shuffle(shuffled, seed, static_cast<uint64_t>(round));
    const double found = information(shuffled);
    baseline.mean += found / static_cast<double>(shufflings);
    baseline.highest = std::max(baseline.highest, found);
    // Tables that are equal but for their order differ by rounding.
    if (found >= observed * (1 - 1e-12)) ++reaching;
  }
  baseline.p_value = (1.0 + static_cast<double>(reaching)) / (1.0 + static_cast<double>(shufflings));
  return baseline;
}

PermutationBaseline permutation_baseline(const LabelledChoices& units, int64_t shufflings, uint64_t seed) {
  LabelledChoices shuffled = units;
  const auto information = [&](const std::vector<int32_t>& labels) {
    shuffled.labels = labels;
    return mutual_information(count_choices_by_label(shuffled));
  };
  return permutation_baseline(units.labels, information, shufflings, seed);
}

double conditional_information(const KindedChoices& units, const std::vector<int32_t>& labels) {
  double information = 0;
  for (const CountTable& table : tables_by_kind(units, labels)) {
    const std::vector<double> rows = row_sums(table);
    information += std::accumulate(rows.begin(), rows.end(), 0.0) * mutual_information(table);
  }
  return units.choices.empty() ? 0.0 : information / static_cast<double>(units.choices.size());
}

double conditional_label_entropy(const KindedChoices& units, const std::vector<int32_t>& labels) {
  double entropy = 0;
  for (const CountTable& table : tables_by_kind(units, labels)) {
    const std::vector<double> rows = row_sums(table);
    entropy += std::accumulate(rows.begin(), rows.end(), 0.0) * entropy_in_nats(rows);
  }
  return units.choices.empty() ? 0.0 : entropy / static_cast<double>(units.choices.size());
}

}  // namespace switchyard
