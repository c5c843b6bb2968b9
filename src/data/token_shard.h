// A file of tokens: header, document bounds, token ids (u16 or u32), checksum. Memory-mapped and checked when opened.
//
// Layout, all numbers little-endian:
//   offset  bytes  what
//        0      8  magic "SWYTOKEN"
//        8      4  u32 version, 1
//       12      4  u32 token_bytes: 2 when vocab_size <= 65536, else 4
//       16      8  u64 num_tokens
//       24      8  u64 num_documents
//       32      8  u64 vocab_size, 1 to 2^31
//       40      8  u64 domain_bytes: length of the domain's name
//       48     16  XXH3-128 (canonical byte order) of everything else: bytes [0, 48) and [64, end of file)
//       64         the domain's name, zeros up to a multiple of 8
//                  num_documents u64: one past the last token of each document, ascending, the last is num_tokens
//                  num_tokens tokens of token_bytes each; the file ends with the last one
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"

namespace switchyard {

class TokenShard {
 public:
  TokenShard() = default;  // no documents, no tokens
  // Maps and verifies `path`: magic, version, sizes, offsets, checksum, every token below the vocabulary.
  // Throws DataError naming the file and what is wrong.
  static TokenShard open(const std::filesystem::path& path);

  const std::string& domain() const { return domain_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(document_ends_.size()); }
  int64_t vocab_size() const { return vocab_size_; }
  const std::string& content_checksum() const { return checksum_; }
  // One past the last token of each document, ascending.
  std::span<const uint64_t> document_ends() const { return document_ends_; }
  // Reads tokens [begin, begin + out.size()), past the map: a file that is cut or unreadable by now is an error, no
  // signal. Throws DataError, also when that reaches outside the shard.
  void copy_tokens(int64_t begin, std::span<int32_t> out) const;

 private:
  std::optional<MappedFile> file_;  // document_ends_ points into it; moving it keeps its address
  std::string domain_;
  std::string checksum_;
  int64_t num_tokens_ = 0;
  int64_t vocab_size_ = 0;
  uint32_t token_bytes_ = 2;
  uint64_t tokens_offset_ = 0;
  std::span<const uint64_t> document_ends_;
};

// Writes documents (each already ends in end_of_text) as a shard. Durable. Throws DataError for an empty document or a
// token outside [0, vocab_size), Error when the file cannot be written.
void write_token_shard(const std::filesystem::path& path, const std::string& domain, int64_t vocab_size,
                       std::span<const std::vector<int32_t>> documents);

}  // namespace switchyard
