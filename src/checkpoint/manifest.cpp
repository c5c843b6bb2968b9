#include "checkpoint/manifest.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/json.h"
#include "base/text.h"
#include "checkpoint/guard.h"

namespace switchyard {
namespace {

constexpr int64_t kFormatVersion = 1;
constexpr uint64_t kMaxManifestBytes = uint64_t{16} << 20;
constexpr const char* kChecksumKey = "xxh3_128";

uint64_t count_at(const Json& object, const std::string& key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_number_unsigned()) fail(where, "'" + key + "' is not a whole number from 0 on");
  return value.get<uint64_t>();
}

std::string text_at(const Json& object, const std::string& key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_string()) fail(where, "'" + key + "' is not a string");
  return value.get<std::string>();
}

std::map<std::string, FileDigest> read_files(const Json& files, const std::string& where) {
  if (!files.is_object()) fail(where, "'files' is not an object");
  std::map<std::string, FileDigest> result;
  for (const auto& [name, entry] : files.items()) {
    const std::string place = where + ": file " + in_quotes(name);
    if (!is_plain_file_name(name) || name == kManifestFile) {
      fail(place, "not the name of a file inside the checkpoint's own folder");
    }
    result[name] = {count_at(entry, "bytes", place), text_at(entry, kChecksumKey, place)};
  }
  if (!result.contains(kTrainerFile)) fail(where, std::string("'files' does not list ") + kTrainerFile);
  for (const char* required : {kModelFile, kOptimizerFile}) part_files(result, required, where);
  return result;
}

}  // namespace

std::string part_file(const char* file, int rank, int ranks) {
  if (ranks == 1) return file;
  const std::string name = file;
  const size_t dot = name.find('.');
  return name.substr(0, dot) + formatted("-%05d-of-%05d", rank + 1, ranks) + name.substr(dot);
}

std::vector<std::string> part_files(const std::map<std::string, FileDigest>& files, const char* file,
                                    const std::string& where) {
  if (files.contains(file)) return {file};
  const std::string name = file;
  const std::string stem = name.substr(0, name.find('.')) + "-";
  const auto first = files.lower_bound(stem);
  int ranks = 0;
  if (first == files.end() ||
      std::sscanf(first->first.c_str() + std::min(stem.size(), first->first.size()), "%*5d-of-%5d", &ranks) != 1 ||
      ranks < 1) {
    fail(where, "'files' does not list " + name);
  }
  std::vector<std::string> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    parts.push_back(part_file(file, rank, ranks));
    if (!files.contains(parts.back())) fail(where, "'files' does not list " + parts.back());
  }
  return parts;
}

bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

std::string manifest_text(const Manifest& manifest) {
  Json files = Json::object();
  for (const auto& [name, digest] : manifest.files) {
    files[name] = {{"bytes", digest.bytes}, {kChecksumKey, digest.checksum}};
  }
  Json json = {{"files", files}, {"format_version", kFormatVersion}, {"step", manifest.step}};
  json[kChecksumKey] = checksum(json.dump());
  return json.dump(2) + "\n";
}

Manifest parse_manifest(std::string_view text, const std::string& where) {
  Json json = with_checkpoint_errors([&] { return parse_json(text, where); });
  const std::string written = text_at(json, kChecksumKey, where);
  json.erase(kChecksumKey);
  const std::string found = checksum(json.dump());
  if (written != found) fail(where, "its content has checksum " + found + ", but it says " + in_quotes(written));
  const uint64_t version = count_at(json, "format_version", where);
  if (version != kFormatVersion) {
    throw OtherFormatError(where + ": format_version is " + std::to_string(version) + "; this program reads version " +
                           std::to_string(kFormatVersion));
  }
  const uint64_t step = count_at(json, "step", where);
  if (step > std::numeric_limits<int64_t>::max()) fail(where, "step " + std::to_string(step) + " is too large");
  return {static_cast<int64_t>(step), read_files(member(json, "files", where), where)};
}

Manifest read_manifest(const std::filesystem::path& checkpoint) {
  const std::filesystem::path path = checkpoint / kManifestFile;
  return with_checkpoint_errors([&] {
    if (!std::filesystem::is_directory(checkpoint)) fail(checkpoint.string(), "there is no such checkpoint folder");
    const std::filesystem::file_status status = std::filesystem::symlink_status(path);
    if (!std::filesystem::exists(status)) {
      fail(checkpoint.string(),
           std::string("not a complete checkpoint: ") + kManifestFile + ", which is written last, is missing");
    }
    if (!std::filesystem::is_regular_file(status)) fail(path.string(), "it is a link or no regular file");
    return parse_manifest(read_file(path, kMaxManifestBytes), path.string());
  });
}

void check_file_size(const std::filesystem::path& checkpoint, const std::string& name, const FileDigest& expected) {
  const std::filesystem::path path = checkpoint / name;
  with_checkpoint_errors([&] {
    const std::filesystem::file_status status = std::filesystem::symlink_status(path);
    const std::string wanted = std::string("; ") + kManifestFile + " lists it with " + std::to_string(expected.bytes);
    if (!std::filesystem::exists(status)) fail(path.string(), "the file is missing" + wanted + " bytes");
    if (!std::filesystem::is_regular_file(status)) fail(path.string(), "it is a link or no regular file" + wanted);
    const uint64_t size = std::filesystem::file_size(path);
    if (size != expected.bytes) fail(path.string(), "the file has " + std::to_string(size) + " bytes" + wanted);
  });
}

void check_file_checksum(const std::filesystem::path& checkpoint, const std::string& name, const FileDigest& expected,
                         const std::string& found) {
  if (found == expected.checksum) return;
  fail((checkpoint / name).string(), "wrong checksum " + found + "; " + kManifestFile + " says " +
                                         in_quotes(expected.checksum) + ", so the file was damaged after saving");
}

}  // namespace switchyard
