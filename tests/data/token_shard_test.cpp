#include "data/token_shard.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "data/shard_view.h"
#include "tests/data/helpers.h"

namespace switchyard {
namespace {

using test::expect_data_error;

// Writes the right checksum over whatever `file` now says, so that only the structure can be at fault.
void seal(std::string& file) {
  if (file.size() < kShardHeaderBytes) return;
  const auto digest = shard_checksum(std::as_bytes(std::span(file)));
  std::memcpy(file.data() + kShardChecksumOffset, digest.data(), digest.size());
}

template <typename Number>
void put(std::string& file, size_t offset, Number value) {
  std::memcpy(file.data() + offset, &value, sizeof(value));
}

class TokenShardTest : public testing::Test {
 protected:
  std::string good_file() {
    write_token_shard(folder_ / "good.bin", "books", 300, documents_);
    return test::slurp(folder_ / "good.bin");
  }
  TokenShard open(const std::string& content) { return TokenShard::open(test::write_text(folder_ / "x.bin", content)); }

  // What open() does, without a file.
  static ShardView check(const std::string& content) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(content));
    ShardView view = parse_shard(bytes, "x.bin");
    verify_shard(view, bytes, "x.bin");
    return view;
  }

  test::TemporaryFolder folder_;
  std::vector<std::vector<int32_t>> documents_ = {{1, 2, 299}, {0}, {7, 8}};
};

TEST_F(TokenShardTest, ReadsBackWhatWasWritten) {
  const TokenShard shard = open(good_file());
  EXPECT_EQ(shard.domain(), "books");
  EXPECT_EQ(shard.num_tokens(), 6);
  EXPECT_EQ(shard.num_documents(), 3);
  EXPECT_EQ(shard.vocab_size(), 300);
  EXPECT_THAT(shard.document_ends(), testing::ElementsAre(3, 4, 6));
  std::vector<int32_t> tokens(4);
  shard.copy_tokens(2, tokens);
  EXPECT_THAT(tokens, testing::ElementsAre(299, 0, 7, 8));
}

TEST_F(TokenShardTest, LayoutIsTheOneThatTheHeaderDescribes) {
  const std::string file = good_file();
  ASSERT_EQ(file.size(), 64u + 8u + 3u * 8u + 6u * 2u);
  EXPECT_EQ(file.substr(0, 8), "SWYTOKEN");
  EXPECT_EQ(file.substr(8, 8), std::string("\1\0\0\0\2\0\0\0", 8));
  EXPECT_EQ(file.substr(16, 8), std::string("\6\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(file.substr(24, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(file.substr(32, 8), std::string("\x2c\1\0\0\0\0\0\0", 8));
  EXPECT_EQ(file.substr(40, 8), std::string("\5\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(file.substr(64, 8), std::string("books\0\0\0", 8));
  EXPECT_EQ(file.substr(72, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(file.substr(96), std::string("\1\0\2\0\x2b\1\0\0\7\0\10\0", 12));
}

TEST_F(TokenShardTest, FourBytesFromVocabulary65537On) {
  documents_ = {{65535, 70000, 3}};
  write_token_shard(folder_ / "two.bin", "d", 65536, {{{65535}}});
  write_token_shard(folder_ / "four.bin", "d", 70001, documents_);
  EXPECT_EQ(std::filesystem::file_size(folder_ / "two.bin"), 64u + 8 + 8 + 2);
  EXPECT_EQ(std::filesystem::file_size(folder_ / "four.bin"), 64u + 8 + 8 + 12);
  std::vector<int32_t> tokens(3);
  TokenShard::open(folder_ / "four.bin").copy_tokens(0, tokens);
  EXPECT_EQ(tokens, documents_[0]);
}

TEST_F(TokenShardTest, RefusesToWriteNonsense) {
  const auto write = [&](int64_t vocab_size, std::vector<std::vector<int32_t>> documents) {
    write_token_shard(folder_ / "no.bin", "d", vocab_size, documents);
  };
  expect_data_error([&] { write(10, {{1, 10}}); }, {"no.bin", "token 10", "vocabulary of 10"});
  expect_data_error([&] { write(10, {{-1}}); }, {"token -1"});
  expect_data_error([&] { write(10, {{1}, {}}); }, {"no tokens"});
  expect_data_error([&] { write(0, {}); }, {"vocabulary of 0"});
  EXPECT_FALSE(std::filesystem::exists(folder_ / "no.bin"));
}

TEST_F(TokenShardTest, CopyingOutsideIsAnError) {
  const TokenShard shard = open(good_file());
  std::vector<int32_t> tokens(4);
  for (const int64_t begin : {int64_t{-1}, int64_t{3}, int64_t{7}, INT64_MAX, INT64_MIN}) {
    expect_data_error([&] { shard.copy_tokens(begin, tokens); }, {"4 tokens from " + std::to_string(begin), "of 6"});
  }
}

TEST_F(TokenShardTest, CutWhileInUse) {
  const TokenShard shard = open(good_file());
  const std::filesystem::path path = folder_ / "x.bin";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  std::vector<int32_t> tokens(6);
  expect_data_error([&] { shard.copy_tokens(0, tokens); }, {path.string(), "cut while in use"});
}

TEST_F(TokenShardTest, MovedShardStillReads) {
  TokenShard first = open(good_file());
  const TokenShard second = std::move(first);
  std::vector<int32_t> tokens(1);
  second.copy_tokens(2, tokens);
  EXPECT_EQ(tokens[0], 299);
}

TEST_F(TokenShardTest, AnyFlippedBitIsFound) {
  const std::string good = good_file();
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1 << bit);
      expect_data_error([&] { check(bad); }, {"x.bin"});
    }
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x55);
    if (i % 8 == 0) expect_data_error([&] { open(bad); }, {"x.bin"});
  }
}

TEST_F(TokenShardTest, AnyOtherLengthIsFound) {
  const std::string good = good_file();
  for (size_t size = 0; size < good.size(); ++size) {
    expect_data_error([&] { check(good.substr(0, size)); }, {"x.bin"});
    if (size % 8 == 0) expect_data_error([&] { open(good.substr(0, size)); }, {"x.bin"});
  }
  expect_data_error([&] { open(good.substr(0, good.size() - 1)); }, {"6 tokens", "only 11 bytes"});
  expect_data_error([&] { open(good + '\0'); }, {"1 bytes follow"});
  expect_data_error([&] { open(""); }, {"0 bytes", "64"});
}

TEST_F(TokenShardTest, SealedLiesAreFoundByName) {
  const std::string good = good_file();
  const auto expect = [&](size_t offset, auto value, const std::string& message) {
    std::string bad = good;
    put(bad, offset, value);
    seal(bad);
    expect_data_error([&] { open(bad); }, {"x.bin", message});
  };
  expect(0, 'T', "does not begin with SWYTOKEN");
  expect(8, uint32_t{2}, "version 2, this program reads version 1");
  expect(12, uint32_t{4}, "4 bytes a token");
  expect(12, uint32_t{0}, "0 bytes a token");
  expect(16, uint64_t{5}, "2 bytes follow");
  expect(16, uint64_t{7}, "7 tokens");
  expect(16, UINT64_MAX, "tokens");
  expect(16, (uint64_t{1} << 63) + 6, "tokens");  // times two bytes it would wrap to the right size
  expect(24, uint64_t{2}, "bytes follow");
  expect(24, (uint64_t{1} << 61) + 3, "documents");
  expect(32, uint64_t{0}, "vocabulary of 0");
  expect(32, uint64_t{299}, "not below the vocabulary of 299");
  expect(32, uint64_t{65537}, "2 bytes a token");
  expect(32, UINT64_MAX, "vocabulary");
  expect(40, UINT64_MAX, "domain name");
  expect(40, uint64_t{13}, "tokens");
  expect(72, uint64_t{0}, "ends at 0");
  expect(72, uint64_t{4}, "ends at 4");
  expect(80, uint64_t{2}, "ends at 2");
  expect(88, uint64_t{7}, "documents end at token 7 of 6");
  expect(88, uint64_t{5}, "documents end at token 5 of 6");
  expect(96, uint16_t{300}, "not below the vocabulary of 300");
}

TEST_F(TokenShardTest, GeneratedLiesNeverGetThroughUnlessTheyAreTrue) {
  test::Words words(1);
  const std::string good = good_file();
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (uint64_t edit = 0; edit <= words.below(3); ++edit) {
      const uint64_t value = std::array<uint64_t, 4>{words.next(), words.below(20), UINT64_MAX - words.below(9),
                                                     uint64_t{1} << words.below(64)}[words.below(4)];
      put(bad, 8 + 4 * words.below((bad.size() - 16) / 4), value);
    }
    if (words.below(3) == 0) bad.resize(words.below(bad.size() + 20));
    seal(bad);
    try {
      check(bad);
      const TokenShard shard = open(bad);
      std::vector<int32_t> tokens(static_cast<size_t>(shard.num_tokens()));
      shard.copy_tokens(0, tokens);
      for (const int32_t token : tokens) EXPECT_TRUE(token >= 0 && token < shard.vocab_size());
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 2000);
}

TEST_F(TokenShardTest, MissingFileAndFolderAreDataErrors) {
  expect_data_error([&] { TokenShard::open(folder_ / "none.bin"); }, {"none.bin"});
  expect_data_error([&] { TokenShard::open(folder_.path()); }, {folder_.path().string()});
}

// 3 * 2^30 tokens of two bytes in a sparse file: offsets beyond 2^32 without reading all of it.
TEST_F(TokenShardTest, OffsetsBeyondFourGigabytes) {
  const uint64_t num_tokens = uint64_t{3} << 30;
  ShardHeader header{.num_tokens = num_tokens, .num_documents = 1, .vocab_size = 300, .domain_bytes = 8};
  std::string start(kShardHeaderBytes, '\0');
  std::memcpy(start.data(), &header, sizeof(header));
  start += "domain_x" + std::string(8, '\0');
  put(start, 72, num_tokens);
  test::write_text(folder_ / "sparse.bin", start);
  std::filesystem::resize_file(folder_ / "sparse.bin", 80 + 2 * num_tokens);
  const uint64_t far = (uint64_t{5} << 29) + 3;  // token 2,684,354,563, byte 5,368,709,206
  {
    std::fstream file(folder_ / "sparse.bin", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(80 + 2 * far)).write("\x2a\0\x2b\0", 4);
  }
  const MappedFile file(folder_ / "sparse.bin");
  const ShardView view = parse_shard(file.bytes(), "sparse.bin");
  EXPECT_EQ(view.tokens.size(), 2 * num_tokens);
  std::vector<int32_t> tokens(4);
  const auto copy = [&](uint64_t begin) { read_shard_tokens(file, 80, 2, static_cast<int64_t>(begin), tokens); };
  copy(far - 1);
  EXPECT_THAT(tokens, testing::ElementsAre(0, 42, 43, 0));
  copy(num_tokens - 4);
  EXPECT_THAT(tokens, testing::Each(0));
  expect_data_error([&] { copy(num_tokens - 3); }, {"shard"});
}

}  // namespace
}  // namespace switchyard
