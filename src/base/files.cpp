#include "base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <mutex>
#include <utility>

#include "base/errors.h"
#include "base/logging.h"
#include "base/system.h"

namespace switchyard {
namespace {

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
  if (descriptor < 0) fail_as_system("cannot open", path);
  return descriptor;
}

uint64_t size_of_regular_file(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail_as_system("cannot stat", path);
  if (!S_ISREG(status.st_mode)) throw Error("cannot read " + path.string() + ": it is not a regular file");
  return static_cast<uint64_t>(status.st_size);
}

// What a process has open under a name: to be written to, not replaced, even where it is a regular file.
bool names_descriptor(const std::filesystem::path& path) {
  const std::string text = path.string();
  return text == "/dev/stdout" || text == "/dev/stderr" || text.starts_with("/dev/fd/") || text.starts_with("/proc/");
}

constexpr std::string_view kTemporary = ".tmp-";  // between a file's name and the number of the process that writes it

// Removes what killed processes have left beside `path`: a living one holds its own.
void remove_dead_neighbours(const std::filesystem::path& path) {
  const std::string begin = path.filename().string() + std::string(kTemporary);
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() > begin.size() && name.starts_with(begin) &&
        name.find_first_not_of("0123456789", begin.size()) == std::string::npos) {
      found.push_back(entry.path());
    }
  }
  for (const std::filesystem::path& one : found) {
    const Descriptor file{::open(one.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    if (file.value >= 0 && ::flock(file.value, LOCK_EX | LOCK_NB) == 0) ::unlink(one.c_str());
  }
}

struct Maps {
  std::mutex mutex;
  std::map<const std::byte*, std::pair<size_t, std::string>> by_address;
};

// Never destroyed: other threads may read until the very end.
Maps& maps() {
  static Maps* const all = new Maps;
  return *all;
}

// An access to memory raises it, so this thread is inside of no lock and no allocation.
extern "C" void on_bus_error(int /*number*/, siginfo_t* info, void* /*context*/) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  Maps& all = maps();
  const std::lock_guard lock(all.mutex);
  auto found = all.by_address.upper_bound(address);
  if (found != all.by_address.begin() && address < std::prev(found)->first + std::prev(found)->second.first) {
    log_error("cannot read " + std::prev(found)->second.second + ": it was cut while in use, or its disk fails");
    ::_exit(1);
  }
  ::signal(SIGBUS, SIG_DFL);  // the access happens again, and ends the process
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
    if (got < 0) fail_as_system("cannot read", path);
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
  write_file_durably(path, bytes);
  sync_directory(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

void sync_directory(const std::filesystem::path& path) {
  const Descriptor directory{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.value < 0) fail_as_system("cannot open folder", path);
  // Some network file systems cannot flush a folder and say so with EINVAL: nothing more can be done there.
  if (::fsync(directory.value) != 0 && errno != EINVAL) fail_as_system("cannot flush folder", path);
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
  struct stat status {};
  const bool exists = ::stat(path_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) throw Error("cannot write " + path_.string() + ": it is a folder");
  if (exists && (!S_ISREG(status.st_mode) || names_descriptor(path_))) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (descriptor_ < 0) fail_as_system("cannot write", path_);
    return;
  }
  if (exists) path_ = std::filesystem::canonical(path_);  // a link stays, and what it points to is replaced
  create_neighbour(exists ? std::optional(status.st_mode & 07777) : std::nullopt);
}

// Exclusively, so that it is this process's own, which holds it as long as it writes. What has its name is left from a
// killed process (in a container they often have the same number): it is removed, not followed if it is a link.
void DurableFile::create_neighbour(std::optional<unsigned> mode) {
  remove_dead_neighbours(path_);
  neighbour_ = path_;
  neighbour_ += std::string(kTemporary) + std::to_string(::getpid());
  const auto create = [&] { return ::open(neighbour_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644); };
  descriptor_ = create();
  if (descriptor_ < 0 && errno == EEXIST && ::unlink(neighbour_.c_str()) == 0) descriptor_ = create();
  if (descriptor_ < 0) fail_as_system("cannot create", path_);
  ::flock(descriptor_, LOCK_EX | LOCK_NB);  // where there are no locks, leftovers stay
  if (mode) ::fchmod(descriptor_, *mode);   // where the file system has none, nothing is lost
}

DurableFile::~DurableFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!committed_ && !neighbour_.empty()) ::unlink(neighbour_.c_str());
}

void DurableFile::write(const void* bytes, size_t size) {
  checksum_.update(bytes, size);
  bytes_ += size;
  const char* position = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, position, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_as_system("cannot write", path_);
    position += written;
    size -= static_cast<size_t>(written);
  }
}

FileDigest DurableFile::commit() {
  // Devices and pipes have nothing to flush, and say so with EINVAL.
  if (::fsync(descriptor_) != 0 && !(neighbour_.empty() && errno == EINVAL)) fail_as_system("cannot flush", path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_as_system("cannot close", path_);
  if (!neighbour_.empty() && ::rename(neighbour_.c_str(), path_.c_str()) != 0) fail_as_system("cannot replace", path_);
  committed_ = true;
  return {bytes_, checksum_.text()};
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  Descriptor file{open_for_reading(path)};
  size_ = size_of_regular_file(file.value, path);
  if (size_ > 0) {
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
    if (address == MAP_FAILED) fail_as_system("cannot map", path);
    data_ = static_cast<const std::byte*>(address);
    Maps& all = maps();
    const std::lock_guard lock(all.mutex);
    all.by_address[data_] = {size_, path.string()};
  }
  descriptor_ = std::exchange(file.value, -1);
}

MappedFile::~MappedFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (data_ == nullptr) return;
  Maps& all = maps();
  const std::lock_guard lock(all.mutex);
  all.by_address.erase(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::read(uint64_t offset, void* out, size_t size) const {
  char* position = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t got = ::pread(descriptor_, position, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_as_system("cannot read", path_);
    if (got == 0) {
      throw Error("cannot read " + path_.string() + ": it was cut while in use, from " + std::to_string(size_) +
                  " bytes to at most " + std::to_string(offset));
    }
    position += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void name_unreadable_maps() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace switchyard
