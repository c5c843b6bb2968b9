#include "metrics/jsonl.h"

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/errors.h"
#include "base/files.h"
#include "base/logging.h"

namespace switchyard {
namespace {

// Without the zero bytes that a power cut leaves where a line's blocks were never written.
std::string_view without_zeros(std::string_view line) {
  while (line.starts_with('\0')) line.remove_prefix(1);
  while (line.ends_with('\0')) line.remove_suffix(1);
  return line;
}

// Calls use(line without its newline, parsed) for every line; parsed is null where the line is not a whole object.
// A last line that was cut (no newline, and not whole) is left out.
template <typename Use>
void for_each_line(std::string_view text, Use&& use) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = without_zeros(text.substr(0, end));
    const bool cut = end == std::string_view::npos;
    text.remove_prefix(cut ? text.size() : end + 1);
    Json parsed;
    try {
      parsed = parse_json(line, "a line");
    } catch (const Error&) {
    }
    if (!parsed.is_object()) parsed = Json();
    if (!parsed.is_null() || !cut) use(line, parsed);
  }
}

bool is_later(const Json& line, int64_t step) {
  const auto found = line.find("step");
  return step >= 0 && found != line.end() && found->is_number() && found->get<double>() > static_cast<double>(step);
}

// The lines of a file, each ended by a newline, that a run resumed at `step` keeps; and those that are none.
struct SortedLines {
  std::string kept;
  std::string broken;
  int64_t num_broken = 0;
};

SortedLines sort_lines(const std::string& text, int64_t step) {
  SortedLines sorted;
  sorted.kept.reserve(text.size() + 1);
  for_each_line(text, [&](std::string_view line, const Json& parsed) {
    if (parsed.is_null()) {
      sorted.broken.append(line).append("\n");
      ++sorted.num_broken;
    } else if (!is_later(parsed, step)) {
      sorted.kept.append(line).append("\n");
    }
  });
  return sorted;
}

// Adds what cannot be read to a file beside `path`, before it goes from there.
void put_aside(const SortedLines& lines, const std::filesystem::path& path) {
  std::filesystem::path aside = path;
  aside += ".broken";
  std::string text = std::filesystem::exists(aside) ? read_file(aside) : "";
  if (!text.ends_with(lines.broken)) replace_file(aside, text + lines.broken);  // a kill may have come in between
  log_warning(path.string() + " has " + std::to_string(lines.num_broken) +
              " lines that are no JSON objects: they are now in " + aside.string() + ", all others are kept");
}

}  // namespace

JsonlWriter::JsonlWriter(const std::filesystem::path& path, int64_t resume_step) : path_(path) {
  if (std::filesystem::is_regular_file(path)) {  // not a pipe or a device
    const std::string text = read_file(path);
    const SortedLines lines = sort_lines(text, resume_step);
    if (lines.num_broken > 0) put_aside(lines, path);
    if (text.find('\0') != std::string::npos)
      log_warning("zero bytes, as a power cut leaves, removed from " + path.string());
    if (lines.kept != text) replace_file(path, lines.kept);
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
  for_each_line(read_file(path), [&](std::string_view, Json& parsed) { lines.push_back(std::move(parsed)); });
  return lines;
}

}  // namespace switchyard
