#include "data/documents.h"

#include <zlib.h>

#include <algorithm>

#include "base/errors.h"

namespace switchyard {
namespace {

// Ends zlib's state on every way out.
struct Inflater {
  z_stream stream{};
  ~Inflater() { ::inflateEnd(&stream); }
};

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw DataError("cannot decompress " + path.string() + ": " + what);
}

std::string decompress(std::string_view content, const std::filesystem::path& path, uint64_t max_bytes) {
  constexpr int kGzipOnly = 16 + MAX_WBITS;
  constexpr size_t kPiece = size_t{1} << 20;
  Inflater inflater;
  z_stream& stream = inflater.stream;
  if (::inflateInit2(&stream, kGzipOnly) != Z_OK) fail(path, "zlib does not start");
  std::string text;
  std::string piece(kPiece, '\0');
  size_t consumed = 0;
  int state = Z_OK;
  while (state != Z_STREAM_END || consumed < content.size()) {
    if (state == Z_STREAM_END && ::inflateReset(&stream) != Z_OK) fail(path, "zlib does not restart");  // next member
    const size_t given = std::min(content.size() - consumed, kPiece);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data() + consumed));
    stream.avail_in = static_cast<uInt>(given);
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(kPiece);
    state = ::inflate(&stream, Z_NO_FLUSH);
    if (state == Z_BUF_ERROR) fail(path, "it ends too early");
    if (state != Z_OK && state != Z_STREAM_END) fail(path, stream.msg == nullptr ? "it is not gzip" : stream.msg);
    consumed += given - stream.avail_in;
    text.append(piece, 0, kPiece - stream.avail_out);
    if (text.size() > max_bytes) fail(path, "it holds more than the " + std::to_string(max_bytes) + " bytes allowed");
  }
  return text;
}

std::string_view without_empty_lines_around(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  while (text.ends_with("\n\n")) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> entries_of(std::string_view text) {
  std::vector<std::string_view> entries;
  size_t begin = 0;
  const auto finish = [&](size_t end) {
    const std::string_view entry = without_empty_lines_around(text.substr(begin, end - begin));
    if (!entry.empty()) entries.push_back(entry);
    begin = end;
  };
  for (size_t empty_line = text.find("\n\n"); empty_line != std::string_view::npos;
       empty_line = text.find("\n\n", empty_line + 1)) {
    const size_t line = empty_line + 2;
    if (line < text.size() && text.find_first_of(" \t\n", line) != line) finish(line);
  }
  finish(text.size());
  return entries;
}

}  // namespace

std::string text_of_file(std::string content, const std::filesystem::path& path, uint64_t max_bytes) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (content.empty() || (extension != ".gz" && extension != ".dz")) return content;
  return decompress(content, path, max_bytes);
}

std::vector<std::string_view> documents_of(std::string_view text, DocumentRule rule) {
  if (text.empty()) return {};
  switch (rule) {
    case DocumentRule::kFile:
      return {text};
    case DocumentRule::kEntry:
      return entries_of(text);
  }
  throw DataError("unknown document rule");
}

}  // namespace switchyard
