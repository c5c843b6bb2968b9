// Standard input, output and error: there from the start, and what standard output did not take is an error.
#pragma once

#include <string_view>

namespace switchyard {

// Opens /dev/null in place of each of the three that is closed: a file or a socket that got its number would get what
// is printed. Opened the wrong way round, so that it fails as a closed one does. The first thing main() does.
void open_standard_descriptors();

// Prints to standard output, which buffers. Throws Error with the system's reason.
void print_text(std::string_view text);

// Hands on what is buffered. Throws Error where anything that was printed is lost: the disk is full, the reader gone.
void flush_standard_output();

}  // namespace switchyard
