#include "data/shard_view.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "base/errors.h"
#include "data/guard.h"

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little, "token shards are read in place");

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw DataError(name + " is not a good token shard: " + what);
}

void check_header(const ShardHeader& header, const std::string& name) {
  if (header.magic != kShardMagic) fail(name, "it does not begin with SWYTOKEN");
  if (header.version != kShardVersion) {
    fail(name,
         "version " + std::to_string(header.version) + ", this program reads version " + std::to_string(kShardVersion));
  }
  if (header.vocab_size < 1 || header.vocab_size > uint64_t{1} << 31) {
    fail(name, "vocabulary of " + std::to_string(header.vocab_size) + ", it must be from 1 to 2^31");
  }
  const uint32_t token_bytes = header.vocab_size <= 65536 ? 2 : 4;
  if (header.token_bytes != token_bytes) {
    fail(name, std::to_string(header.token_bytes) + " bytes a token, a vocabulary of " +
                   std::to_string(header.vocab_size) + " takes " + std::to_string(token_bytes));
  }
}

// Takes `count` items of `item_bytes` off the front of `rest`; the division keeps lying counts from overflowing.
std::span<const std::byte> take(std::span<const std::byte>& rest, uint64_t count, uint64_t item_bytes,
                                const std::string& name, const std::string& what) {
  if (count > rest.size() / item_bytes) {
    fail(name, "its header speaks of " + std::to_string(count) + " " + what + ", only " + std::to_string(rest.size()) +
                   " bytes are left for them");
  }
  const std::span<const std::byte> part = rest.first(count * item_bytes);
  rest = rest.subspan(count * item_bytes);
  return part;
}

template <typename Token>
bool all_below(std::span<const std::byte> bytes, uint64_t limit) {
  const Token* tokens = reinterpret_cast<const Token*>(bytes.data());
  const size_t count = bytes.size() / sizeof(Token);
  Token largest = 0;
  for (size_t i = 0; i < count; ++i) largest = std::max(largest, tokens[i]);
  return count == 0 || largest < limit;
}

}  // namespace

ShardView parse_shard(std::span<const std::byte> file, const std::string& name) {
  if (file.size() < kShardHeaderBytes) {
    fail(name, "it has " + std::to_string(file.size()) + " bytes, the header alone takes " +
                   std::to_string(kShardHeaderBytes));
  }
  ShardView view;
  std::memcpy(&view.header, file.data(), kShardHeaderBytes);
  check_header(view.header, name);
  std::span<const std::byte> rest = file.subspan(kShardHeaderBytes);
  const auto domain = take(rest, view.header.domain_bytes, 1, name, "bytes of domain name");
  view.domain.assign(reinterpret_cast<const char*>(domain.data()), domain.size());
  take(rest, (8 - domain.size() % 8) % 8, 1, name, "bytes of padding");
  const auto ends = take(rest, view.header.num_documents, sizeof(uint64_t), name, "documents");
  view.document_ends = {reinterpret_cast<const uint64_t*>(ends.data()), view.header.num_documents};
  view.tokens = take(rest, view.header.num_tokens, view.header.token_bytes, name, "tokens");
  if (!rest.empty()) fail(name, std::to_string(rest.size()) + " bytes follow its last token");
  return view;
}

void verify_shard(const ShardView& view, std::span<const std::byte> file, const std::string& name) {
  if (shard_checksum(file) != view.header.checksum) fail(name, "its checksum does not match its content");
  uint64_t previous = 0;
  for (const uint64_t end : view.document_ends) {
    if (end <= previous)
      fail(name, "a document ends at " + std::to_string(end) + ", not after " + std::to_string(previous) +
                     " where it begins");
    previous = end;
  }
  if (previous != view.header.num_tokens) {
    fail(name,
         "its documents end at token " + std::to_string(previous) + " of " + std::to_string(view.header.num_tokens));
  }
  const bool good = view.header.token_bytes == 2 ? all_below<uint16_t>(view.tokens, view.header.vocab_size)
                                                 : all_below<uint32_t>(view.tokens, view.header.vocab_size);
  if (!good) fail(name, "a token is not below the vocabulary of " + std::to_string(view.header.vocab_size));
}

std::array<unsigned char, 16> shard_checksum(std::span<const std::byte> file) {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, file.data(), kShardChecksumOffset);
  const std::span<const std::byte> rest = file.subspan(kShardHeaderBytes);
  XXH3_128bits_update(&state, rest.data(), rest.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
  std::array<unsigned char, 16> digest;
  std::copy_n(canonical.digest, digest.size(), digest.begin());
  return digest;
}

void read_shard_tokens(const MappedFile& file, uint64_t offset, uint32_t token_bytes, int64_t begin,
                       std::span<int32_t> out) {
  const uint64_t num_tokens = (file.bytes().size() - offset) / token_bytes;
  if (begin < 0 || static_cast<uint64_t>(begin) > num_tokens ||
      out.size() > num_tokens - static_cast<uint64_t>(begin)) {
    throw DataError("asked for " + std::to_string(out.size()) + " tokens from " + std::to_string(begin) +
                    " of a shard of " + std::to_string(num_tokens));
  }
  const uint64_t first = offset + static_cast<uint64_t>(begin) * token_bytes;
  with_data_errors([&] {
    if (token_bytes == sizeof(int32_t)) return file.read(first, out.data(), out.size_bytes());
    std::vector<uint16_t> narrow(out.size());
    file.read(first, narrow.data(), narrow.size() * sizeof(uint16_t));
    std::copy(narrow.begin(), narrow.end(), out.begin());
  });
}

}  // namespace switchyard
