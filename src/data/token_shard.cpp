#include "data/token_shard.h"

#include <cstring>

#include "base/errors.h"
#include "data/guard.h"
#include "data/shard_view.h"

namespace switchyard {
namespace {

std::string as_hexadecimal(std::span<const unsigned char> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

void append_bytes(std::vector<std::byte>& file, const void* bytes, size_t size) {
  const std::byte* first = static_cast<const std::byte*>(bytes);
  file.insert(file.end(), first, first + size);
}

void append_ends(std::vector<std::byte>& file, std::span<const std::vector<int32_t>> documents) {
  uint64_t end = 0;
  for (const std::vector<int32_t>& document : documents) {
    end += document.size();
    append_bytes(file, &end, sizeof(end));
  }
}

template <typename Token>
void append_tokens(std::vector<std::byte>& file, const std::vector<int32_t>& document) {
  const std::vector<Token> tokens(document.begin(), document.end());
  append_bytes(file, tokens.data(), tokens.size() * sizeof(Token));
}

uint64_t checked_token_count(const std::filesystem::path& path, int64_t vocab_size,
                             std::span<const std::vector<int32_t>> documents) {
  uint64_t count = 0;
  for (const std::vector<int32_t>& document : documents) {
    if (document.empty()) throw DataError("cannot write " + path.string() + ": a document has no tokens");
    for (const int32_t token : document) {
      if (token >= 0 && token < vocab_size) continue;
      throw DataError("cannot write " + path.string() + ": token " + std::to_string(token) +
                      " lies outside the vocabulary of " + std::to_string(vocab_size));
    }
    count += document.size();
  }
  return count;
}

}  // namespace

TokenShard TokenShard::open(const std::filesystem::path& path) {
  TokenShard shard;
  with_data_errors([&] { shard.file_ = MappedFile(path); });
  const ShardView view = parse_shard(shard.file_->bytes(), path.string());
  verify_shard(view, shard.file_->bytes(), path.string());
  shard.domain_ = view.domain;
  shard.checksum_ = as_hexadecimal(view.header.checksum);
  shard.vocab_size_ = static_cast<int64_t>(view.header.vocab_size);
  shard.num_tokens_ = static_cast<int64_t>(view.header.num_tokens);
  shard.token_bytes_ = view.header.token_bytes;
  shard.tokens_offset_ = static_cast<uint64_t>(view.tokens.data() - shard.file_->bytes().data());
  shard.document_ends_ = view.document_ends;
  return shard;
}

void TokenShard::copy_tokens(int64_t begin, std::span<int32_t> out) const {
  if (!file_) {
    if (begin != 0 || !out.empty()) throw DataError("asked for tokens of a shard without any");
    return;
  }
  read_shard_tokens(*file_, tokens_offset_, token_bytes_, begin, out);
}

void write_token_shard(const std::filesystem::path& path, const std::string& domain, int64_t vocab_size,
                       std::span<const std::vector<int32_t>> documents) {
  if (vocab_size < 1 || vocab_size > int64_t{1} << 31) {
    throw DataError("cannot write " + path.string() + ": a vocabulary of " + std::to_string(vocab_size) +
                    ", it must be from 1 to 2^31");
  }
  ShardHeader header;
  header.num_tokens = checked_token_count(path, vocab_size, documents);
  header.token_bytes = vocab_size <= 65536 ? 2 : 4;
  header.num_documents = documents.size();
  header.vocab_size = static_cast<uint64_t>(vocab_size);
  header.domain_bytes = domain.size();

  std::vector<std::byte> file;
  file.reserve(kShardHeaderBytes + domain.size() + 8 + documents.size() * 8 + header.num_tokens * header.token_bytes);
  append_bytes(file, &header, sizeof(header));
  append_bytes(file, domain.data(), domain.size());
  file.resize((file.size() + 7) / 8 * 8);
  append_ends(file, documents);
  for (const std::vector<int32_t>& document : documents) {
    header.token_bytes == 2 ? append_tokens<uint16_t>(file, document) : append_tokens<uint32_t>(file, document);
  }
  const auto digest = shard_checksum(file);
  std::memcpy(file.data() + kShardChecksumOffset, digest.data(), digest.size());
  write_file_durably(path, {reinterpret_cast<const char*>(file.data()), file.size()});
}

}  // namespace switchyard
