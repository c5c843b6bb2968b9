#include "ablate/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/errors.h"

namespace switchyard {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr int kMostTerms = 10000;
constexpr double kTiny = 1e-300;

// The continued fraction of I_x(a, b), which converges fast for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  double c = 1;
  double d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::fabs(d) < kTiny ? kTiny : d);
  double fraction = d;
  for (int m = 1; m <= kMostTerms; ++m) {
    double change = 1;
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    for (const double term : {even, odd}) {
      d = 1 + term * d;
      d = 1 / (std::fabs(d) < kTiny ? kTiny : d);
      c = 1 + term / c;
      c = std::fabs(c) < kTiny ? kTiny : c;
      change *= c * d;
    }
    fraction *= change;
    if (std::fabs(change - 1) < 1e-15) break;
  }
  return fraction;
}

TestResult test_of(double difference, double error, double df) {
  if (error == 0)
    return {difference, difference == 0 ? 0 : std::copysign(INFINITY, difference), df, difference == 0 ? 1.0 : 0.0};
  const double t = difference / error;
  return {difference, t, df, student_two_sided(t, df)};
}

void require_two(const std::vector<double>& values) {
  if (values.size() < 2)
    throw Error("a t-test needs at least two values of each side, found " + std::to_string(values.size()));
}

}  // namespace

Spread spread_of(const std::vector<double>& values) {
  const size_t n = values.size();
  if (n == 0) return {0, kNone, kNone};
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  if (n == 1) return {1, mean, kNone};
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {n, mean, std::sqrt(squares / static_cast<double>(n - 1))};
}

double regularised_incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_two_sided(double t, double df) {
  if (std::isinf(t)) return 0;
  return regularised_incomplete_beta(df / 2, 0.5, df / (df + t * t));
}

TestResult welch_test(const std::vector<double>& a, const std::vector<double>& b) {
  require_two(a);
  require_two(b);
  const Spread of_a = spread_of(a), of_b = spread_of(b);
  const double var_a = of_a.deviation * of_a.deviation / static_cast<double>(a.size());
  const double var_b = of_b.deviation * of_b.deviation / static_cast<double>(b.size());
  const double sum = var_a + var_b;
  const double df =
      sum == 0
          ? static_cast<double>(a.size() + b.size() - 2)
          : sum * sum /
                (var_a * var_a / static_cast<double>(a.size() - 1) + var_b * var_b / static_cast<double>(b.size() - 1));
  return test_of(of_a.mean - of_b.mean, std::sqrt(sum), df);
}

TestResult paired_test(const std::vector<double>& a, const std::vector<double>& b) {
  require_two(a);
  if (a.size() != b.size()) throw Error("a paired test needs as many values on both sides");
  std::vector<double> differences(a.size());
  std::transform(a.begin(), a.end(), b.begin(), differences.begin(), std::minus<>());
  const Spread spread = spread_of(differences);
  return test_of(spread.mean, spread.deviation / std::sqrt(static_cast<double>(a.size())),
                 static_cast<double>(a.size() - 1));
}

std::vector<double> holm_corrected(const std::vector<double>& p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return p[i] < p[j]; });
  std::vector<double> corrected(p.size());
  double largest = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    largest = std::max(largest, std::min(1.0, p[order[rank]] * static_cast<double>(p.size() - rank)));
    corrected[order[rank]] = largest;
  }
  return corrected;
}

std::vector<size_t> pareto_front(const std::vector<std::pair<double, double>>& points) {
  const auto known = [](const std::pair<double, double>& point) {
    return !std::isnan(point.first) && !std::isnan(point.second);
  };
  std::vector<size_t> front;
  for (size_t i = 0; i < points.size(); ++i) {
    const auto beats = [&](const std::pair<double, double>& other) {
      return known(other) && other.first <= points[i].first && other.second <= points[i].second && other != points[i];
    };
    if (known(points[i]) && std::none_of(points.begin(), points.end(), beats)) front.push_back(i);
  }
  std::stable_sort(front.begin(), front.end(), [&](size_t i, size_t j) { return points[i] < points[j]; });
  return front;
}

}  // namespace switchyard
