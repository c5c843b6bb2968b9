// Self-contained HTML pages, from the parts in src/metrics/page/ by way of embed.cmake.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace switchyard {

namespace page {

extern const std::string_view kTemplate;              // report.html, with {{title}}, {{command}}, {{style}} ...
extern const std::string_view kStyle;                 // report.css
extern const std::string_view kScript;                // of `switchyard report`: .js files, one after the other
extern const std::string_view kSpecialisationScript;  // of `switchyard specialisation`

}  // namespace page

// The page that `script` builds from `data` in the reader's browser. `command` is what the footer says made it. No
// network, light and dark.
std::string render_page(const std::string& title, const std::string& command, std::string_view script,
                        const Json& data);

}  // namespace switchyard
