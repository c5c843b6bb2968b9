#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/errors.h"

namespace switchyard {
namespace {

[[noreturn]] void fail(const std::string& what, const std::filesystem::path& path) {
  const int reason = errno;  // before anything below can change it
  throw Error(what + " " + path.string() + ": " + std::strerror(reason));
}

// Closes a descriptor on every way out.
struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

// O_NONBLOCK: opening a named pipe would otherwise wait for a writer instead of being refused as no regular file.
int open_for_reading(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail("cannot open", path);
  return descriptor;
}

uint64_t size_of_regular_file(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail("cannot stat", path);
  if (!S_ISREG(status.st_mode)) throw Error("cannot read " + path.string() + ": it is not a regular file");
  return static_cast<uint64_t>(status.st_size);
}

std::string as_hexadecimal(XXH128_hash_t hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string text;
  for (const unsigned char digit : canonical.digest) {
    text += kDigits[digit >> 4];
    text += kDigits[digit & 15];
  }
  return text;
}

}  // namespace

std::string read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const Descriptor file{open_for_reading(path)};
  const uint64_t size = size_of_regular_file(file.value, path);
  if (size > max_bytes) {
    throw Error("cannot read " + path.string() + ": it has " + std::to_string(size) + " bytes, more than the " +
                std::to_string(max_bytes) + " allowed here");
  }
  std::string content(size, '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t got = ::read(file.value, content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read", path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  content.resize(done);
  return content;
}

FileDigest write_file_durably(const std::filesystem::path& path, std::string_view bytes) {
  DurableFile file(path);
  file.write(bytes.data(), bytes.size());
  return file.commit();
}

void replace_file(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::path temporary = path;
  temporary += ".tmp-" + std::to_string(::getpid());
  ::unlink(temporary.c_str());  // a link that others planted is not written through
  write_file_durably(temporary, bytes);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary.c_str());
    errno = reason;
    fail("cannot replace", path);
  }
  sync_directory(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

void sync_directory(const std::filesystem::path& path) {
  const Descriptor directory{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.value < 0) fail("cannot open folder", path);
  // Some network file systems cannot flush a folder and say so with EINVAL: nothing more can be done there.
  if (::fsync(directory.value) != 0 && errno != EINVAL) fail("cannot flush folder", path);
}

std::string checksum(std::span<const std::byte> bytes) {
  return as_hexadecimal(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string checksum(std::string_view bytes) { return checksum(std::as_bytes(std::span(bytes.data(), bytes.size()))); }

struct RunningChecksum::State {
  XXH3_state_t xxh3;
};

RunningChecksum::RunningChecksum() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh3); }

RunningChecksum::~RunningChecksum() = default;

void RunningChecksum::update(const void* bytes, size_t size) {
  if (size > 0) XXH3_128bits_update(&state_->xxh3, bytes, size);
}

std::string RunningChecksum::text() const { return as_hexadecimal(XXH3_128bits_digest(&state_->xxh3)); }

std::string checksum_file(const std::filesystem::path& path, const std::function<void(uint64_t)>& progress) {
  constexpr size_t kPiece = 1 << 24;
  const MappedFile file(path);
  RunningChecksum checksum;
  for (size_t begin = 0; begin < file.bytes().size(); begin += kPiece) {
    const auto piece = file.bytes().subspan(begin, std::min(kPiece, file.bytes().size() - begin));
    checksum.update(piece.data(), piece.size());
    if (progress) progress(begin + piece.size());
  }
  return checksum.text();
}

DurableFile::DurableFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("cannot create", path_);
}

DurableFile::~DurableFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!committed_) ::unlink(path_.c_str());
}

void DurableFile::write(const void* bytes, size_t size) {
  checksum_.update(bytes, size);
  bytes_ += size;
  const char* position = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, position, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write", path_);
    position += written;
    size -= static_cast<size_t>(written);
  }
}

FileDigest DurableFile::commit() {
  if (::fsync(descriptor_) != 0) fail("cannot flush", path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("cannot close", path_);
  committed_ = true;
  return {bytes_, checksum_.text()};
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file{open_for_reading(path)};
  size_ = size_of_regular_file(file.value, path);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (address == MAP_FAILED) fail("cannot map", path);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace switchyard
