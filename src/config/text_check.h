// What is refused before the YAML parser sees a text.
#pragma once

#include <memory>
#include <string_view>

#include "config/problems.h"

namespace switchyard {

// A configuration is written by hand; a megabyte of it is a mistake or an attack.
constexpr size_t kMostConfigBytes = size_t{1} << 20;

// Looks for what the parser would misread or choke on: over a mebibyte, bytes that are not UTF-8, control characters,
// tabs in the indentation, bracket nesting without end. Returns whether the text is fit; if not, `problems` says why.
bool check_text(std::string_view text, const std::shared_ptr<const SourceText>& source, Problems& problems);

}  // namespace switchyard
