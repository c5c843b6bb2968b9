#include "cli/numbers.h"

#include "base/text.h"

namespace switchyard {

CLI::Validator number_between(double low, double high, bool or_zero) {
  const std::string range = formatted("%g to %g", low, high) + (or_zero ? ", or 0" : "");
  const auto problem = [=](const std::string& text) -> std::string {
    double value = 0;
    const bool good =
        CLI::detail::lexical_cast(text, value) && ((value >= low && value <= high) || (or_zero && value == 0));
    return good ? "" : in_quotes(text) + " is not a number in the range " + range;
  };
  return {problem, "in " + range};
}

}  // namespace switchyard
