// Is a difference between settings more than the seeds' noise? Pure functions of numbers.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace switchyard {

// Mean and sample standard deviation (n - 1) of values. NaN where there are too few: 1 for the mean, 2 for the
// deviation.
struct Spread {
  size_t count = 0;
  double mean;
  double deviation;
};
Spread spread_of(const std::vector<double>& values);

// I_x(a, b), for a, b > 0 and 0 <= x <= 1: the continued fraction of DLMF 8.17.22 by Lentz's method. To about 1e-14.
double regularised_incomplete_beta(double a, double b, double x);

// P(|T| >= |t|) of Student's distribution with `df` > 0 degrees of freedom: I_{df / (df + t^2)}(df / 2, 1 / 2).
double student_two_sided(double t, double df);

struct TestResult {
  double difference;  // mean of a - mean of b
  double t;
  double df;
  double p;  // two-sided
};

// Welch's t-test of two independent samples of at least two values (Welch 1947; degrees of freedom by Satterthwaite).
// Where neither sample varies, p is 1 for equal means and 0 for others. Throws Error for smaller samples.
TestResult welch_test(const std::vector<double>& a, const std::vector<double>& b);

// Student's t-test of the differences a_i - b_i of at least two pairs, likewise.
TestResult paired_test(const std::vector<double>& a, const std::vector<double>& b);

// Holm's correction (Holm 1979) of the p values of several tests: the chance that any of them is so small if none of
// the differences is real stays below the threshold that each is compared with.
std::vector<double> holm_corrected(const std::vector<double>& p);

// Indices of the points that no other point beats: none is at most as large in both coordinates and smaller in one.
// Ascending in the first coordinate. Points with a NaN take no part.
std::vector<size_t> pareto_front(const std::vector<std::pair<double, double>>& points);

}  // namespace switchyard
