// manifest.json: what makes a folder a checkpoint. It names every other file with its size and checksum, and carries
// a checksum of itself, so that a changed bit anywhere is found and blamed on the right file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"

namespace switchyard {

inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";
inline constexpr const char* kTrainerFile = "trainer.json";

// The name under which one of several ranks saves its part: "model-00002-of-00004.safetensors" for rank 1 of 4; `file`
// itself for one rank.
std::string part_file(const char* file, int rank, int ranks);

struct Manifest {
  int64_t step = 0;
  std::map<std::string, FileDigest> files;
};

// A file name without folders: not empty, not "." or "..", no slash, backslash or control character.
bool is_plain_file_name(std::string_view name);

// The names in `files` that together are kModelFile or kOptimizerFile, in rank order. `where` starts each message.
// Throws CheckpointError naming what is missing.
std::vector<std::string> part_files(const std::map<std::string, FileDigest>& files, const char* file,
                                    const std::string& where);

// The text of manifest.json: {files: {name: {bytes, xxh3_128}}, format_version, step, xxh3_128}, where the last is the
// checksum of the other members as compact JSON with sorted keys.
std::string manifest_text(const Manifest& manifest);

// The opposite, for untrusted text. Requires the files that every checkpoint has, whole or all their parts. `where`
// starts each message. Throws CheckpointError.
Manifest parse_manifest(std::string_view text, const std::string& where);

// Reads and checks the manifest of a checkpoint folder. Throws CheckpointError, also when there is none.
Manifest read_manifest(const std::filesystem::path& checkpoint);

// Throws CheckpointError unless file `name` is there, regular (no link), and of the size that the manifest says.
void check_file_size(const std::filesystem::path& checkpoint, const std::string& name, const FileDigest& expected);

// Throws CheckpointError unless `found`, the checksum of the content that was read, is the manifest's.
void check_file_checksum(const std::filesystem::path& checkpoint, const std::string& name, const FileDigest& expected,
                         const std::string& found);

}  // namespace switchyard
