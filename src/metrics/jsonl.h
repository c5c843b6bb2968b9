// metrics.jsonl: one JSON object a line, flushed line by line.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "base/json.h"

namespace switchyard {

class JsonlWriter {
 public:
  // Opens for appending. A line cut short at the end is removed first, and with `resume_step` >= 0 the lines of later
  // steps too (an interrupted run leaves lines that a resumed one writes again): the file is replaced as a whole, so
  // that a kill meanwhile loses nothing. Other lines that are no JSON objects (a power cut, a bad disk) go into a file
  // beside it, `path`.broken, with a warning. Throws Error.
  explicit JsonlWriter(const std::filesystem::path& path, int64_t resume_step = -1);
  ~JsonlWriter();
  JsonlWriter(const JsonlWriter&) = delete;
  JsonlWriter& operator=(const JsonlWriter&) = delete;

  // Appends one line and hands it to the system at once. NaN and infinities are written as null. Throws Error.
  void write(const OrderedJson& line);

 private:
  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
};

// Whether a line of a metrics file is an event of this name.
bool is_event(const Json& line, const char* name);

// All lines of a metrics file, line i of the file at index i - 1: an object, or null where the line is none. A last
// line that is cut short (it has no newline and is not whole) is left out. Throws Error where the file cannot be read.
std::vector<Json> read_jsonl(const std::filesystem::path& path);

}  // namespace switchyard
