#include "ablate/conclusion.h"

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

// `who` is worse than the best by so much, and what that is worth.
std::string difference_text(const std::string& who, const Comparison& comparison, double p, const std::string& extra) {
  return who + formatted(" is %.4f behind, which ", std::fabs(comparison.test.difference)) +
         (p < kSignificant ? "is more than" : "does not exceed") + " the seeds' noise (" + test_text(comparison) +
         extra + ")";
}

std::string quoted(const Plan& plan, size_t setting) { return "“" + plan.settings[setting].label + "”"; }

std::string unknown_text(const std::string& who, double difference) {
  return who +
         formatted(" is %.4f behind; whether that exceeds the seeds' noise takes two finished seeds or more of both",
                   difference);
}

std::string next_sentence(const Plan& plan, const Results& results, const std::vector<double>& means) {
  const std::string who = "The next, " + quoted(plan, *results.next) + ",";
  if (!results.best_against_next) return unknown_text(who, means[*results.next] - means[*results.best]) + ".";
  return difference_text(who, *results.best_against_next, results.best_against_next->test.p, "") + ".";
}

std::string baseline_sentence(const Plan& plan, const Results& results, const std::vector<double>& means) {
  const std::string who = "The baseline, " + quoted(plan, plan.baseline) + ",";
  for (const Comparison& comparison : results.against_baseline) {
    if (comparison.a != *results.best) continue;
    const size_t count = results.against_baseline.size();
    const std::string extra = count > 1 ? "; " + p_text(comparison.corrected) + " after Holm's correction for " +
                                              std::to_string(count) + " comparisons"
                                        : "";
    return " " + difference_text(who, comparison, comparison.corrected, extra) + ".";
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
  if (!results.best) return "No run has finished yet.";
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
