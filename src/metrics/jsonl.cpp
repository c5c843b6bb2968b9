#include "metrics/jsonl.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "base/errors.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/system.h"

namespace switchyard {
namespace {

// Without the zero bytes that a power cut leaves where a line's blocks were never written.
std::string_view without_zeros(std::string_view line) {
  while (line.starts_with('\0')) line.remove_prefix(1);
  while (line.ends_with('\0')) line.remove_suffix(1);
  return line;
}

// What a file has besides whole lines.
struct Remains {
  bool zeros = false;  // around its lines
  bool cut = false;    // the last line has no newline
};

// Calls use(line without its newline, parsed) for every line, one after the other; parsed is null where the line is not
// a whole object. A last line that was cut (no newline, and not whole) is left out. Throws Error where the file cannot
// be read.
template <typename Use>
Remains for_each_line(const std::filesystem::path& path, Use&& use) {
  std::ifstream file(path, std::ios::binary);
  Remains remains;
  for (std::string text; std::getline(file, text);) {
    const std::string_view line = without_zeros(text);
    const bool cut = file.eof();
    Json parsed;
    try {
      parsed = parse_json(line, "a line");
    } catch (const Error&) {
    }
    if (!parsed.is_object()) parsed = Json();
    remains.zeros = remains.zeros || line.size() != text.size();
    remains.cut = cut;
    if (!parsed.is_null() || !cut) use(line, parsed);
  }
  if (file.bad() || !file.eof()) fail_as_system("cannot read", path);
  return remains;
}

bool is_later(const Json& line, int64_t step) {
  const auto found = line.find("step");
  return step >= 0 && found != line.end() && found->is_number() && found->get<double>() > static_cast<double>(step);
}

// What a run resumed at `step` does not keep of a file.
struct Leavings {
  bool any = false;
  bool zeros = false;
  std::string broken;  // lines that are no objects
  int64_t num_broken = 0;
};

Leavings leavings_of(const std::filesystem::path& path, int64_t step) {
  Leavings found;
  const Remains remains = for_each_line(path, [&](std::string_view line, const Json& parsed) {
    found.any = found.any || parsed.is_null() || is_later(parsed, step);
    if (!parsed.is_null()) return;
    found.broken.append(line).append("\n");
    ++found.num_broken;
  });
  found.zeros = remains.zeros;
  found.any = found.any || remains.zeros || remains.cut;
  return found;
}

// Adds what cannot be read to a file beside `path`, before it goes from there.
void put_aside(const Leavings& lines, const std::filesystem::path& path) {
  std::filesystem::path aside = path;
  aside += ".broken";
  std::string text = std::filesystem::exists(aside) ? read_file(aside) : "";
  if (!text.ends_with(lines.broken)) replace_file(aside, text + lines.broken);  // a kill may have come in between
  log_warning(path.string() + " has " + std::to_string(lines.num_broken) +
              " lines that are no JSON objects: they are now in " + aside.string() + ", all others are kept");
}

// Replaces the file by its lines that a run resumed at `step` keeps.
void keep_lines(const std::filesystem::path& path, int64_t step) {
  DurableFile file(path);
  for_each_line(path, [&](std::string_view line, const Json& parsed) {
    if (parsed.is_null() || is_later(parsed, step)) return;
    file.write(line.data(), line.size());
    file.write("\n", 1);
  });
  file.commit();
}

}  // namespace

JsonlWriter::JsonlWriter(const std::filesystem::path& path, int64_t resume_step) : path_(path) {
  if (std::filesystem::is_regular_file(path)) {  // not a pipe or a device
    const Leavings leavings = leavings_of(path, resume_step);
    if (leavings.num_broken > 0) put_aside(leavings, path);
    if (leavings.zeros) log_warning("zero bytes, as a power cut leaves, removed from " + path.string());
    if (leavings.any) keep_lines(path, resume_step);
  }
  file_ = std::fopen(path.c_str(), "abe");
  if (file_ == nullptr) throw Error("cannot open " + path.string() + ": " + std::strerror(errno));
}

JsonlWriter::~JsonlWriter() { std::fclose(file_); }

void JsonlWriter::write(const OrderedJson& line) {
  const std::string text = line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
    throw Error("cannot write " + path_.string() + ": " + std::strerror(errno));
  }
}

bool is_event(const Json& line, const char* name) { return line.is_object() && line.value("event", Json()) == name; }

std::vector<Json> read_jsonl(const std::filesystem::path& path) {
  std::vector<Json> lines;
  for_each_line(path, [&](std::string_view, Json& parsed) { lines.push_back(std::move(parsed)); });
  return lines;
}

}  // namespace switchyard
