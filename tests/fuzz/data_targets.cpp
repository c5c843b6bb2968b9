// Token shards, tokenizers, SentencePiece models, a corpus's manifest and its texts.
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "base/errors.h"
#include "base/files.h"
#include "base/utf8.h"
#include "data/cache.h"
#include "data/documents.h"
#include "data/encoding.h"
#include "data/sentencepiece_tokenizer.h"
#include "data/shard_view.h"
#include "data/token_shard.h"
#include "data/tokenizer.h"
#include "tests/fuzz/target.h"
#include "tests/support/sentencepiece_bytes.h"

namespace switchyard::fuzz {
namespace {

using test::message_field;
using test::number_field;
using Bytes = std::vector<std::byte>;

void check_shard(const Bytes& file) {
  ShardView view;
  const auto open = [&] {
    view = parse_shard(file, "input");
    verify_shard(view, file, "input");
  };
  if (!accepts<DataError>(open)) return;
  require(view.tokens.size() == view.header.num_tokens * view.header.token_bytes, "every token is there");
  require(view.document_ends.empty() ? view.tokens.empty() : view.document_ends.back() == view.header.num_tokens,
          "every token is in a document");
  for (size_t i = 0; i < view.tokens.size(); i += view.header.token_bytes) {
    uint32_t token = 0;
    std::memcpy(&token, view.tokens.data() + i, view.header.token_bytes);
    require(token < view.header.vocab_size, "every token is in the vocabulary");
  }
}

void run_shard(std::string_view input) {
  const auto bytes = std::as_bytes(std::span(input));
  Bytes file(bytes.begin(), bytes.end());
  check_shard(file);
  if (file.size() < kShardHeaderBytes) return;
  const auto digest = shard_checksum(file);
  std::memcpy(file.data() + kShardChecksumOffset, digest.data(), digest.size());
  check_shard(file);
}

std::vector<std::string> shard_seeds() {
  const std::filesystem::path file = scratch("shard") / "seed.bin";
  std::vector<std::string> seeds;
  const auto add = [&](int64_t vocab_size, const std::vector<std::vector<int32_t>>& documents) {
    write_token_shard(file, "web", vocab_size, documents);
    seeds.push_back(read_file(file));
  };
  add(257, {{72, 105, 256}, {256}});
  add(100'000, {{99'999, 1, 2}});
  add(1, {});
  return seeds;
}

// Whatever `text` is, its ids are in the vocabulary, and so is what ends a text.
void check_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  const int64_t size = tokenizer.vocab_size();
  require(tokenizer.end_of_text() >= 0 && tokenizer.end_of_text() < size, "the end of a text is in the vocabulary");
  std::vector<int32_t> ids;
  if (!accepts<DataError>([&] { ids = tokenizer.encode(text); })) return;
  for (const int32_t id : ids) require(id >= 0 && id < size, "every id is in the vocabulary");
  accepts<DataError>([&] { tokenizer.decode(ids); });
  for (int32_t id = 0; id < std::min<int64_t>(size, 300); ++id) {
    accepts<DataError>([&] { tokenizer.decode(std::vector{id, id}); });
  }
  require(!accepts<DataError>([&] { tokenizer.decode(std::vector{static_cast<int32_t>(size)}); }),
          "other ids are refused");
}

constexpr std::string_view kNastyText =
    "the  aaa router \xEF\xBD\x81\xE2\x91\xA0\xC3\xA9\n\xFF<s></s>\xE2\x96\x81 \xE2\x96\x85";

void run_tokenizer(std::string_view input) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (!accepts<DataError>([&] { tokenizer = deserialize_tokenizer(input, "input"); })) return;
  check_tokenizer(*tokenizer, input);
  check_tokenizer(*tokenizer, kNastyText);
  const std::string text = tokenizer->serialize();
  const auto again = deserialize_tokenizer(text, "serialized");
  require(again->serialize() == text, "a serialized tokenizer is the same one");
  require(again->vocab_size() == tokenizer->vocab_size(), "a serialized tokenizer has the same vocabulary");
}

// A model of a few pieces. `model_type`: 1 unigram, 2 BPE, 3 word, 4 char.
std::string small_model(int model_type, const std::string& normalizer) {
  enum Kind { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4 };
  std::string model;
  int rank = 0;
  const auto add = [&](const std::string& text, Kind kind) {
    const auto score = static_cast<float>(-++rank);
    std::string bytes(sizeof(score), '\0');
    std::memcpy(bytes.data(), &score, sizeof(score));
    const std::string piece = message_field(1, text) + std::string(1, 2 << 3 | 5) + bytes;
    model += message_field(1, piece + number_field(3, kind));
  };
  add("<unk>", kUnknown);
  add("<s>", kControl);
  add("</s>", kControl);
  add("<x>", kUserDefined);
  for (const char* piece : {"th", "the", "\xE2\x96\x81the", "er", "\xE2\x96\x81", "t", "h", "e", "r", "o", "u"}) {
    add(piece, kNormal);
  }
  return model + message_field(2, number_field(3, model_type)) + normalizer;
}

void run_sentencepiece(std::string_view input) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (!accepts<DataError>([&] { tokenizer = make_sentencepiece_tokenizer(std::string(input), "input"); })) return;
  check_tokenizer(*tokenizer, kNastyText);
  check_tokenizer(*tokenizer, input.substr(0, 200));
  const std::string text = tokenizer->serialize();
  require(deserialize_tokenizer(text, "serialized")->serialize() == text, "a serialized tokenizer is the same one");
}

std::vector<std::string> sentencepiece_seeds() {
  std::vector<std::string> seeds = {small_model(1, test::normalizer_of_nested_keys(1))};
  for (const int type : {1, 2, 3, 4}) seeds.push_back(small_model(type, ""));
  return seeds;
}

std::vector<std::string> tokenizer_seeds() {
  const std::vector<std::string_view> texts = {"the router \xC3\xA9"};
  return {make_byte_tokenizer()->serialize(), make_char_tokenizer(texts)->serialize(),
          make_sentencepiece_tokenizer(small_model(2, ""), "seed")->serialize()};
}

void run_corpus(std::string_view input) {
  static const std::filesystem::path folder = scratch("corpus");
  test::spill(folder / "manifest.json", input);
  CacheManifest manifest;
  if (!accepts<DataError>([&] { manifest = read_cache_manifest(folder); })) return;
  write_cache_manifest(folder, manifest);
  const CacheManifest again = read_cache_manifest(folder);
  require(again.inputs == manifest.inputs && again.files == manifest.files, "a written manifest is read as it was");
}

std::vector<std::string> corpus_seeds() {
  const std::filesystem::path folder = scratch("corpus");
  write_cache_manifest(folder, {{{"web", "/a.txt", 3, 1'700'000'000'000'000'000, "0f"}}, {{"web.train.bin", "f0"}}});
  return {read_file(folder / "manifest.json")};
}

void check_text(std::string_view text) {
  size_t end = 0;
  for (const std::string_view entry : documents_of(text, DocumentRule::kEntry)) {
    const auto begin = static_cast<size_t>(entry.data() - text.data());
    require(!entry.empty() && begin >= end && begin + entry.size() <= text.size(), "entries follow one another");
    const std::string_view between = text.substr(end, begin - end);
    require(between.find_first_not_of('\n') == std::string_view::npos, "entries leave out nothing but empty lines");
    end = begin + entry.size();
  }
  const TextFaults faults = find_faults(text);
  require((faults.invalid == 0) == is_utf8(text), "every byte that is not UTF-8 is found");
  require(faults.zeros == std::count(text.begin(), text.end(), '\0'), "every zero byte is found");
  require(is_utf8(utf8_of_latin1(text)), "Latin-1 becomes UTF-8");
  accepts<DataError>([&] { refuse_known_formats(text, "input"); });
}

void run_text(std::string_view input) {
  constexpr uint64_t kMost = 1 << 20;
  check_text(input);
  std::string text;
  if (!accepts<DataError>([&] { text = text_of_file(std::string(input), "input.gz", kMost); })) return;
  require(text.size() <= kMost, "no more text than allowed");
  check_text(text);
}

std::string compressed(const std::string& text) {
  constexpr int kGzip = 16 + MAX_WBITS;
  z_stream stream{};
  require(::deflateInit2(&stream, 9, Z_DEFLATED, kGzip, 9, Z_DEFAULT_STRATEGY) == Z_OK, "zlib starts");
  std::string bytes(text.size() + 100, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  require(::deflate(&stream, Z_FINISH) == Z_STREAM_END, "zlib ends");
  bytes.resize(stream.total_out);
  ::deflateEnd(&stream);
  return bytes;
}

std::vector<std::string> text_seeds() {
  const std::string entries = "one\n  more\n\n\n\ntwo\n\n three\n\nfour";
  return {entries, compressed(entries), compressed("a") + compressed("\xC3\xA9\xFF"), std::string("PK\x03\x04\0", 5)};
}

}  // namespace

std::vector<Target> data_targets() {
  return {{"shard", run_shard, shard_seeds},
          {"tokenizer", run_tokenizer, tokenizer_seeds},
          {"sentencepiece", run_sentencepiece, sentencepiece_seeds},
          {"corpus", run_corpus, corpus_seeds},
          {"text", run_text, text_seeds}};
}

}  // namespace switchyard::fuzz
