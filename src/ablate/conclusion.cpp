#include "ablate/conclusion.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace switchyard {
namespace {

std::string seeds_text(size_t count) { return std::to_string(count) + (count == 1 ? " seed" : " seeds"); }

std::string p_text(double p) { return p < 1e-4 ? "p < 0.0001" : formatted("p = %.2g", p); }

std::string test_text(const Comparison& comparison) {
  const std::string name = comparison.paired ? "paired t-test" : "Welch's t-test";
  return name + ", " + seeds_text(comparison.count) + (comparison.paired ? "" : " or more a side") +
         formatted(": t = %.2f, df = %.3g, ", comparison.test.t, comparison.test.df) + p_text(comparison.test.p);
}

std::string verdict_on(const Comparison& comparison) {
  if (is_significant(comparison)) return "which is more than the seeds' noise";
  if (comparison.count < 3) return "and two seeds are too few to say whether that is noise";
  return "which does not exceed the seeds' noise";
}

// `who` is worse than the best by so much, and what that is worth. `family`: what the p is corrected for.
std::string difference_text(const std::string& who, const Comparison& comparison, const std::string& family) {
  const std::string corrected = family.empty() ? "" : "; " + p_text(comparison.corrected) + " after " + family;
  return who + formatted(" is %.4f behind, ", std::fabs(comparison.test.difference)) + verdict_on(comparison) + " (" +
         test_text(comparison) + corrected + ")";
}

std::string holm_text(const Results& results) {
  const size_t count = results.against_baseline.size();
  return count < 2 ? "" : "Holm's correction for " + std::to_string(count) + " comparisons with the baseline";
}

std::string bonferroni_text(const Results& results) {
  const auto has_run = [](const SettingResult& setting) { return !setting.losses.empty(); };
  const auto count = std::count_if(results.settings.begin(), results.settings.end(), has_run);
  return "Bonferroni's correction for all " + std::to_string(count * (count - 1) / 2) + " pairs of settings";
}

std::string quoted(const Plan& plan, size_t setting) { return "“" + plan.settings[setting].label + "”"; }

std::string unknown_text(const std::string& who, double difference) {
  return who +
         formatted(" is %.4f behind; whether that exceeds the seeds' noise takes three finished seeds or more of both",
                   difference);
}

std::string next_sentence(const Plan& plan, const Results& results, const std::vector<double>& means) {
  const std::string who = "The next, " + quoted(plan, *results.next) + ",";
  if (!results.best_against_next) return unknown_text(who, means[*results.next] - means[*results.best]) + ".";
  const bool with_baseline = *results.best == plan.baseline || *results.next == plan.baseline;
  const std::string family = with_baseline ? holm_text(results) : bonferroni_text(results);
  return difference_text(who, *results.best_against_next, family) + ".";
}

std::string baseline_sentence(const Plan& plan, const Results& results, const std::vector<double>& means) {
  const std::string who = "The baseline, " + quoted(plan, plan.baseline) + ",";
  for (const Comparison& comparison : results.against_baseline) {
    if (comparison.a != *results.best) continue;
    return " " + difference_text(who, comparison, holm_text(results)) + ".";
  }
  if (std::isnan(means[plan.baseline])) return " " + who + " has no finished run.";
  return " " + unknown_text(who, means[plan.baseline] - means[*results.best]) + ".";
}

bool any_paired(const Results& results) { return results.best_against_next && results.best_against_next->paired; }

}  // namespace

std::string spread_text(const Spread& spread, int decimals) {
  if (spread.count == 0) return "–";
  if (spread.count == 1) return formatted("%.*f", decimals, spread.mean);
  return formatted("%.*f ± %.*f", decimals, spread.mean, decimals, spread.deviation);
}

std::string conclusion_of(const Plan& plan, const Results& results) {
  if (!results.best) return "No run has finished.";
  std::vector<double> means;
  for (const SettingResult& setting : results.settings) means.push_back(spread_of(setting.losses).mean);
  const Spread best = spread_of(results.settings[*results.best].losses);
  std::string text = "Lowest validation loss: " + quoted(plan, *results.best) + " with " + spread_text(best, 4) +
                     " nats per token (" + (best.count > 1 ? "mean ± standard deviation over " : "") +
                     seeds_text(best.count) + ").";
  if (!results.next) return text;
  text += " " + next_sentence(plan, results, means);
  if (*results.best == plan.baseline) {
    text += " It is the baseline itself.";
  } else if (*results.next != plan.baseline) {
    text += baseline_sentence(plan, results, means);
  }
  if (any_paired(results)) {
    text +=
        " Pairs are formed by seed, since a seed fixes the initial values and the order of the data in all settings.";
  }
  return text;
}

}  // namespace switchyard
