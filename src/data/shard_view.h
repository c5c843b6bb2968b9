// The parts of a token shard inside a block of memory. Private to data/: TokenShard is this over a mapped file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/files.h"

namespace switchyard {

inline constexpr std::array<char, 8> kShardMagic = {'S', 'W', 'Y', 'T', 'O', 'K', 'E', 'N'};
inline constexpr uint32_t kShardVersion = 1;
inline constexpr size_t kShardChecksumOffset = 48;
inline constexpr size_t kShardHeaderBytes = 64;

struct ShardHeader {
  std::array<char, 8> magic = kShardMagic;
  uint32_t version = kShardVersion;
  uint32_t token_bytes = 2;
  uint64_t num_tokens = 0;
  uint64_t num_documents = 0;
  uint64_t vocab_size = 0;
  uint64_t domain_bytes = 0;
  std::array<unsigned char, 16> checksum = {};
};
static_assert(sizeof(ShardHeader) == kShardHeaderBytes);

// Points into the memory it was made from.
struct ShardView {
  ShardHeader header;
  std::string domain;
  std::span<const uint64_t> document_ends;
  std::span<const std::byte> tokens;
};

// Finds the parts of `file` from its header alone: magic, version, sizes that add up to the file's size. Touches
// neither tokens nor document ends. Throws DataError starting with `name`.
ShardView parse_shard(std::span<const std::byte> file, const std::string& name);

// Reads everything: checksum, ascending document ends, tokens below the vocabulary. Throws DataError.
void verify_shard(const ShardView& view, std::span<const std::byte> file, const std::string& name);

// XXH3-128 of everything but the checksum field itself. `file` must hold a whole header.
std::array<unsigned char, 16> shard_checksum(std::span<const std::byte> file);

// Reads tokens [begin, begin + out.size()) of those that fill `file` from `offset` on. Throws DataError when that
// reaches outside, or the file has become shorter or unreadable.
void read_shard_tokens(const MappedFile& file, uint64_t offset, uint32_t token_bytes, int64_t begin,
                       std::span<int32_t> out);

}  // namespace switchyard
