// The parts of the report pages, from src/metrics/page/ by way of embed.cmake, and how a page is put together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace switchyard::page {

extern const std::string_view kTemplate;  // report.html, with {{title}}, {{maker}}, {{style}}, {{script}}, {{data}}
extern const std::string_view kStyle;     // report.css
extern const std::string_view kScript;    // the .js files of a report of runs, one after the other
extern const std::string_view kSpecialisationScript;  // those of `switchyard specialisation`
extern const std::string_view kAblationScript;        // those of a sweep's report

// To `digits` significant digits, so that the text is short. NaN and infinities become null.
Json rounded(double value, int digits);
Json rounded(const std::vector<double>& values, int digits);

// The whole page. `maker`: the command that the footer names.
std::string render(std::string_view script, const std::string& title, const std::string& maker, const Json& data);

}  // namespace switchyard::page
