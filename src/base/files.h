// Files: whole reads, read-only maps, and writes that either happen completely or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

// Reads a whole file. Throws Error naming the path and the system's reason; refuses files over `max_bytes`.
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes = uint64_t{1} << 32);

// What was written to a file: known without reading it back.
struct FileDigest {
  uint64_t bytes = 0;
  std::string checksum;  // as checksum() gives it
};

// Writes `bytes` to `path` as DurableFile does. Throws Error (for instance "No space left on device").
FileDigest write_file_durably(const std::filesystem::path& path, std::string_view bytes);

// The same, and flushes the folder, too: after a power cut, the file is still there.
void replace_file(const std::filesystem::path& path, std::string_view bytes);

// Flushes a directory's entries (after a rename inside it), where its file system knows how. Throws Error.
void sync_directory(const std::filesystem::path& path);

// XXH3-128 of bytes, as 32 lower-case hexadecimal digits. Finds accidents, not forgery.
std::string checksum(std::span<const std::byte> bytes);
std::string checksum(std::string_view bytes);
// The same of a file's content, streamed through a map; `progress` gets the bytes that are done. Throws Error.
std::string checksum_file(const std::filesystem::path& path, const std::function<void(uint64_t)>& progress = {});

// The same over bytes that arrive in pieces.
class RunningChecksum {
 public:
  RunningChecksum();
  ~RunningChecksum();
  RunningChecksum(const RunningChecksum&) = delete;
  RunningChecksum& operator=(const RunningChecksum&) = delete;

  void update(const void* bytes, size_t size);
  // The checksum of everything so far.
  std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// An output file that is written as a whole or not at all: into a temporary neighbour, which takes its name in
// commit(). Until then, and after any failure, what was there before is untouched: readers see the old file or the new
// one. A device or a pipe is written to instead. Reports every failure: a short write, a full disk, a failing fsync.
// Throws Error.
class DurableFile {
 public:
  explicit DurableFile(std::filesystem::path path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* bytes, size_t size);
  // fsync, close, rename; returns what was written. Without it, or when it fails, the destructor removes the neighbour.
  FileDigest commit();

 private:
  void create_neighbour(std::optional<unsigned> mode);

  std::filesystem::path path_;
  std::filesystem::path neighbour_;  // empty: written in place
  int descriptor_ = -1;
  bool committed_ = false;
  uint64_t bytes_ = 0;
  RunningChecksum checksum_;
};

// A read-only memory map of a whole file. An empty file maps to an empty span. Where the file is cut, or its disk
// fails, touching the memory ends the process (see name_unreadable_maps); read() throws.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  // Copies bytes [offset, offset + size) to `out`, past the map. Throws Error, also where the file has become shorter.
  void read(uint64_t offset, void* out, size_t size) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// From now on, a page of a MappedFile that can't be read any more (SIGBUS) is an error in the log that names the file,
// and exit code 1.
void name_unreadable_maps();

}  // namespace switchyard
