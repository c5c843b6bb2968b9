#include "data/cache.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/new_folder.h"
#include "data/glob.h"
#include "data/guard.h"
#include "data/tokenizer_choice.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// Raise it whenever the same sources would give other tokens or other files.
constexpr int64_t kFormatVersion = 1;
constexpr const char* kManifestName = "manifest.json";

InputFile input_at(const std::string& source, const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw DataError("cannot read " + path.string() + ": " + std::strerror(errno));
  }
  const int64_t mtime_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return {.source = source, .path = path.string(), .size = status.st_size, .mtime_ns = mtime_ns, .checksum = {}};
}

const char* name_of(DocumentRule rule) { return rule == DocumentRule::kFile ? "file" : "entry"; }

// Throws Json::exception where there is none, or a number with a fraction.
int64_t integer_at(const Json& json, const char* key) { return json.at(key).get_ref<const Json::number_integer_t&>(); }

InputFile input_from(const Json& json) {
  return {.source = json.at("source").get<std::string>(),
          .path = json.at("path").get<std::string>(),
          .size = integer_at(json, "size"),
          .mtime_ns = integer_at(json, "mtime_ns"),
          .checksum = json.at("checksum").get<std::string>()};
}

}  // namespace

int64_t sentencepiece_vocab_size(const Config& config) { return config.model.vocab_size.value_or(8192); }

std::string cache_key(const Config& config) {
  Json key = {{"format", kFormatVersion},
              {"tokenizer", config.data.tokenizer},
              {"validation_fraction", config.data.validation_fraction},
              {"sources", Json::array()}};
  if (config.data.tokenizer == "sentencepiece") {
    key["vocab_size"] = sentencepiece_vocab_size(config);
    key["tokenizer_sample_bytes"] = config.data.tokenizer_sample_bytes;
  }
  for (const SourceConfig& source : config.data.sources) {
    Json part = {{"name", source.name}, {"files", source.files}, {"documents", name_of(source.documents)}};
    if (source.encoding == TextEncoding::kLatin1) part["encoding"] = "latin-1";
    if (source.encoding == TextEncoding::kBytes) part["encoding"] = "bytes";
    key["sources"].push_back(std::move(part));
  }
  return checksum(key.dump());
}

std::vector<InputFile> find_inputs(const DataConfig& data) {
  std::vector<InputFile> inputs;
  for (const SourceConfig& source : data.sources) {
    for (const fs::path& path : expand_globs(source.files, source.name)) inputs.push_back(input_at(source.name, path));
  }
  for (const fs::path& path : files_of_tokenizer(data.tokenizer)) inputs.push_back(input_at("", path));
  return inputs;
}

void write_cache_manifest(const fs::path& folder, const CacheManifest& manifest) {
  Json json = {{"format", kFormatVersion}, {"inputs", Json::array()}, {"files", Json::array()}};
  for (const InputFile& input : manifest.inputs) {
    json["inputs"].push_back({{"source", input.source},
                              {"path", input.path},
                              {"size", input.size},
                              {"mtime_ns", input.mtime_ns},
                              {"checksum", input.checksum}});
  }
  for (const auto& [name, sum] : manifest.files) json["files"].push_back({{"name", name}, {"checksum", sum}});
  replace_file(folder / kManifestName, json.dump(1) + "\n");
}

CacheManifest read_cache_manifest(const fs::path& folder) {
  const std::string path = (folder / kManifestName).string();
  try {
    const Json json = with_data_errors([&] { return parse_json(read_file(path), path); });
    if (integer_at(json, "format") != kFormatVersion) throw DataError(path + " is of another version");
    CacheManifest manifest;
    for (const Json& input : json.at("inputs")) manifest.inputs.push_back(input_from(input));
    for (const Json& file : json.at("files")) {
      manifest.files.emplace_back(file.at("name").get<std::string>(), file.at("checksum").get<std::string>());
    }
    return manifest;
  } catch (const Json::exception&) {
    throw DataError(path + " is not a manifest of token shards: an entry is missing or of another type");
  }
}

Freshness compare_inputs(const std::vector<InputFile>& then, std::vector<InputFile>& now) {
  if (then.size() != now.size()) return Freshness::kStale;
  for (size_t i = 0; i < now.size(); ++i) {
    if (then[i].source != now[i].source || then[i].path != now[i].path || then[i].size != now[i].size) {
      return Freshness::kStale;
    }
  }
  Freshness freshness = Freshness::kFresh;
  for (size_t i = 0; i < now.size(); ++i) {
    const bool touched = then[i].mtime_ns != now[i].mtime_ns;
    now[i].checksum = touched ? checksum_file(now[i].path) : then[i].checksum;
    if (now[i].checksum != then[i].checksum) return Freshness::kStale;
    if (touched) freshness = Freshness::kTouched;
  }
  return freshness;
}

std::unique_ptr<FileLock> lock_cache(const fs::path& cache_dir, const std::string& key, std::string& reason) {
  try {
    create_folders(cache_dir);
    auto lock = std::make_unique<FileLock>(cache_dir / (key + ".lock"));
    if (lock->take(0ms)) return lock;
    spdlog::info("data: waiting for {}, which uses {}", lock->holder(), (cache_dir / key).string());
    while (!lock->take(1h)) {
    }
    return lock;
  } catch (const std::exception& error) {
    reason = error.what();
    return nullptr;
  }
}

}  // namespace switchyard
