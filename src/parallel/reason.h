// What c10d's exceptions say, without their stack traces.
#pragma once

#include <exception>
#include <string>

namespace switchyard {

// The first line of an exception's message.
std::string first_line(const std::exception& error);

}  // namespace switchyard
