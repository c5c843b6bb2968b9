// What the process of a run printed.
#pragma once

#include <cstdint>
#include <string>

namespace switchyard {

// "step 20/100  loss ..." gives 20, other lines -1.
int64_t step_of_progress_line(const std::string& line);

// "" where there is none.
std::string last_progress_line(const std::string& text);

// What a process said went wrong: from its last error on, without progress lines, and how it ended.
std::string error_in_output(const std::string& text, int exit_code);

}  // namespace switchyard
