// The results of a sweep in words.
#pragma once

#include <string>

#include "ablate/results.h"

namespace switchyard {

// Which setting is best, and whether the differences to the next and to the baseline exceed the seeds' noise.
std::string conclusion_of(const Plan& plan, const Results& results);

// "3.0532 ± 0.0018", or the mean alone where there is one value; "–" where there is none.
std::string spread_text(const Spread& spread, int decimals);

}  // namespace switchyard
