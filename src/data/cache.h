// The folder that holds a prepared data section. Private to data/.
//
// <cache_dir>/<key>/ holds manifest.json, tokenizer.json, <domain>.train.bin and <domain>.validation.bin. <key> is the
// checksum of the choices that determine them; manifest.json says from which files they were made. A folder is made
// beside its place under a lock and renamed into it, so it is there whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file_lock.h"
#include "config/config.h"

namespace switchyard {

// A file that shards were made from.
struct InputFile {
  std::string source;  // its source's name, or "" for one of a tokenizer
  std::string path;
  int64_t size = 0;
  int64_t mtime_ns = 0;
  std::string checksum;  // of the bytes on disk; empty until they are read

  bool operator==(const InputFile&) const = default;
};

struct CacheManifest {
  std::vector<InputFile> inputs;
  std::vector<std::pair<std::string, std::string>> files;  // name of a file of the folder, its checksum
};

// What a sentencepiece tokenizer without a file is trained to.
int64_t sentencepiece_vocab_size(const Config& config);

// Name of the folder for `config`: sources (not their weights), split, tokenizer, and what it is trained to and on.
std::string cache_key(const Config& config);

// Every file the data section reads, as it is now, without checksums. Throws DataError.
std::vector<InputFile> find_inputs(const DataConfig& data);

void write_cache_manifest(const std::filesystem::path& folder, const CacheManifest& manifest);
// Throws DataError when it is missing or malformed, or of another version.
CacheManifest read_cache_manifest(const std::filesystem::path& folder);

enum class Freshness {
  kFresh,    // same files, sizes and modification times
  kTouched,  // same content, other modification times; `now` has the checksums filled in
  kStale,
};
Freshness compare_inputs(const std::vector<InputFile>& then, std::vector<InputFile>& now);

// Takes <cache_dir>/<key>.lock, waiting for others as long as it takes. Null, and the reason, where there can be no
// lock: what is there can still be read, since folders are only ever replaced as a whole.
std::unique_ptr<FileLock> lock_cache(const std::filesystem::path& cache_dir, const std::string& key,
                                     std::string& reason);

}  // namespace switchyard
