#include "metrics/condense.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard {
namespace {

std::vector<double> finite_values(const std::vector<double>& column) {
  std::vector<double> values;
  std::copy_if(column.begin(), column.end(), std::back_inserter(values),
               [](double value) { return std::isfinite(value); });
  return values;
}

double mean(const std::vector<double>& values) {
  return values.empty() ? kNoNumber
                        : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

Buckets::Buckets(size_t rows, size_t max_buckets)
    : rows(rows), size(std::max<size_t>(1, (rows + max_buckets - 1) / max_buckets)) {}

size_t Buckets::end(size_t bucket) const { return std::min(rows, (bucket + 1) * size); }

std::vector<int64_t> condense_steps(const std::vector<int64_t>& steps, const Buckets& buckets) {
  std::vector<int64_t> last;
  for (size_t i = 0; i < buckets.count(); ++i) last.push_back(steps[buckets.end(i) - 1]);
  return last;
}

Condensed condense(const std::vector<double>& column, const Buckets& buckets) {
  Condensed result;
  for (size_t i = 0; i < buckets.count(); ++i) {
    const auto from = column.begin() + static_cast<std::ptrdiff_t>(buckets.begin(i));
    const auto to = column.begin() + static_cast<std::ptrdiff_t>(buckets.end(i));
    const std::vector<double> values = finite_values({from, to});
    result.mean.push_back(mean(values));
    result.low.push_back(values.empty() ? kNoNumber : *std::min_element(values.begin(), values.end()));
    result.high.push_back(values.empty() ? kNoNumber : *std::max_element(values.begin(), values.end()));
  }
  return result;
}

std::vector<std::vector<double>> condense_rows(const std::vector<std::vector<double>>& rows, const Buckets& buckets) {
  std::vector<std::vector<double>> result;
  for (size_t i = 0; i < buckets.count(); ++i) {
    std::vector<double> sum(rows[buckets.begin(i)].size(), 0.0);
    for (size_t row = buckets.begin(i); row < buckets.end(i); ++row) {
      std::transform(sum.begin(), sum.end(), rows[row].begin(), sum.begin(), std::plus<>());
    }
    for (double& value : sum) value /= static_cast<double>(buckets.end(i) - buckets.begin(i));
    result.push_back(std::move(sum));
  }
  return result;
}

double settled_value(const std::vector<double>& column) {
  const std::vector<double> values = finite_values(column);
  const size_t tail = std::max<size_t>(1, values.size() / 10);
  return values.empty() ? kNoNumber : mean({values.end() - static_cast<std::ptrdiff_t>(tail), values.end()});
}

double median(std::vector<double> column) {
  std::vector<double> values = finite_values(column);
  if (values.empty()) return kNoNumber;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace switchyard
