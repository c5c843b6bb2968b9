#include "data/dataset.h"

#include <chrono>
#include <set>
#include <thread>

#include "base/json.h"
#include "data/base64.h"
#include "data/cache.h"
#include "tests/data/helpers.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using test::expect_data_error;
using test::write_text;

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 30; ++i) {
      write_text(folder_ / ("a/" + std::to_string(i) + ".txt"), "first domain, file " + std::to_string(i) + "\n");
    }
    std::string entries;
    for (int i = 0; i < 40; ++i) entries += "entry" + std::to_string(i) + "\n   what it means\n\n";
    write_text(folder_ / "b/entries.txt", entries);
    config_.data.cache_dir = (folder_ / "cache").string();
    config_.data.sources = {
        {.name = "a", .files = {(folder_ / "a/*.txt").string()}, .weight = 3.0},
        {.name = "b", .files = {(folder_ / "b/**/*.txt").string()}, .weight = 1.0, .documents = DocumentRule::kEntry}};
  }

  // The one prepared folder, and what tells whether it was made again.
  fs::path prepared() const {
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(folder_ / "cache")) {
      if (entry.is_directory()) folders.push_back(entry.path());
    }
    EXPECT_EQ(folders.size(), 1u);
    return folders.at(0);
  }
  bool opening_rebuilds() {
    const fs::path marker = write_text(prepared() / "marker", "");
    open_dataset(config_);
    return !fs::exists(marker);
  }

  test::TemporaryFolder folder_;
  Config config_;
};

std::string text_of(const Dataset& dataset, const TokenShard& shard) {
  std::vector<int32_t> tokens(static_cast<size_t>(shard.num_tokens()));
  shard.copy_tokens(0, tokens);
  return dataset.tokenizer->decode(tokens);
}

TEST_F(DatasetTest, TheVocabularyIsKnownWhenThereIsATokenizer) {
  config_.data.tokenizer = "char";
  EXPECT_EQ(known_vocab_size(config_), std::nullopt);
  const Dataset dataset = open_dataset(config_);
  EXPECT_EQ(known_vocab_size(config_), dataset.tokenizer->vocab_size());
  config_.data.tokenizer = "byte";
  EXPECT_EQ(known_vocab_size(config_), 257);
  config_.data.tokenizer = "sentencepiece";
  EXPECT_EQ(known_vocab_size(config_), 8192);
  config_.model.vocab_size = 300;
  EXPECT_EQ(known_vocab_size(config_), 300);
}

TEST_F(DatasetTest, HoldsEveryDocumentOnOneSide) {
  for (const char* tokenizer : {"byte", "char", "sentencepiece"}) {
    config_.data.tokenizer = tokenizer;
    config_.model.vocab_size = 300;
    const Dataset dataset = open_dataset(config_);
    ASSERT_EQ(dataset.domains.size(), 2u);
    EXPECT_EQ(dataset.domains[0].name, "a");
    EXPECT_EQ(dataset.domains[0].weight, 0.75);
    EXPECT_EQ(dataset.domains[1].weight, 0.25);
    EXPECT_EQ(dataset.domains[0].train.num_documents() + dataset.domains[0].validation.num_documents(), 30);
    EXPECT_EQ(dataset.domains[1].train.num_documents() + dataset.domains[1].validation.num_documents(), 40);
    for (const Domain& domain : dataset.domains) {
      EXPECT_GE(domain.validation.num_documents(), 2);
      int32_t last = 0;
      domain.train.copy_tokens(static_cast<int64_t>(domain.train.document_ends()[0]) - 1, {&last, 1});
      EXPECT_EQ(last, dataset.tokenizer->end_of_text());
    }
    const std::string train = text_of(dataset, dataset.domains[0].train);
    const std::string validation = text_of(dataset, dataset.domains[0].validation);
    for (int i = 0; i < 30; ++i) {
      const std::string document = "first domain, file " + std::to_string(i) + "\n";
      EXPECT_NE(train.find(document) != std::string::npos, validation.find(document) != std::string::npos);
    }
  }
}

TEST_F(DatasetTest, OneBigFileIsCutAtItsEnd) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "line " + std::to_string(1000 + i) + "\n";
  write_text(folder_ / "big.txt", text);
  config_.data.sources = {{.name = "big", .files = {(folder_ / "big.txt").string()}}};
  const Dataset dataset = open_dataset(config_);
  EXPECT_EQ(text_of(dataset, dataset.domains[0].train), text.substr(0, 9000));
  EXPECT_EQ(text_of(dataset, dataset.domains[0].validation), text.substr(9000));
}

TEST_F(DatasetTest, EmptyFilesAreSkipped) {
  write_text(folder_ / "a/empty.txt", "");
  const Dataset dataset = open_dataset(config_);
  EXPECT_EQ(dataset.domains[0].train.num_documents() + dataset.domains[0].validation.num_documents(), 30);
}

TEST_F(DatasetTest, IsMadeOnceAndAlwaysTheSame) {
  const std::string fingerprint = open_dataset(config_).fingerprint;
  EXPECT_EQ(fingerprint.size(), 32u);
  EXPECT_FALSE(opening_rebuilds());
  fs::remove_all(folder_ / "cache");
  config_.training.num_threads = 3;
  config_.run.seed = 99;
  EXPECT_EQ(open_dataset(config_).fingerprint, fingerprint);
}

TEST_F(DatasetTest, WeightsDoNotRebuildButDomainsStay) {
  config_.data.tokenizer = "sentencepiece";
  config_.model.vocab_size = 300;
  const std::string fingerprint = open_dataset(config_).fingerprint;
  config_.data.sources[0].weight = 0.0;
  EXPECT_FALSE(opening_rebuilds());
  const Dataset dataset = open_dataset(config_);
  EXPECT_EQ(dataset.fingerprint, fingerprint);
  EXPECT_EQ(dataset.domains[0].weight, 0.0);
  EXPECT_EQ(dataset.domains[1].weight, 1.0);
}

TEST_F(DatasetTest, WhatDeterminesTheTokensHasItsOwnFolder) {
  std::set<std::string> fingerprints = {open_dataset(config_).fingerprint};
  config_.data.validation_fraction = 0.3;
  fingerprints.insert(open_dataset(config_).fingerprint);
  config_.data.tokenizer = "char";
  fingerprints.insert(open_dataset(config_).fingerprint);
  config_.data.sources[1].documents = DocumentRule::kFile;
  fingerprints.insert(open_dataset(config_).fingerprint);
  config_.data.sources[1].name = "c";
  fingerprints.insert(open_dataset(config_).fingerprint);
  config_.data.tokenizer = "sentencepiece";
  config_.model.vocab_size = 300;
  fingerprints.insert(open_dataset(config_).fingerprint);
  config_.model.vocab_size = 310;
  fingerprints.insert(open_dataset(config_).fingerprint);
  EXPECT_EQ(fingerprints.size(), 7u);
}

TEST_F(DatasetTest, ChangedAddedOrRemovedFilesRebuild) {
  std::set<std::string> fingerprints = {open_dataset(config_).fingerprint};
  write_text(folder_ / "a/3.txt", "first domain, fiLe 3\n");  // same size
  EXPECT_TRUE(opening_rebuilds());
  fingerprints.insert(open_dataset(config_).fingerprint);
  write_text(folder_ / "a/new.txt", "new\n");
  EXPECT_TRUE(opening_rebuilds());
  fingerprints.insert(open_dataset(config_).fingerprint);
  fs::remove(folder_ / "a/7.txt");
  EXPECT_TRUE(opening_rebuilds());
  fingerprints.insert(open_dataset(config_).fingerprint);
  EXPECT_FALSE(opening_rebuilds());
  EXPECT_EQ(fingerprints.size(), 4u);
}

TEST_F(DatasetTest, ATouchedFileDoesNotRebuild) {
  open_dataset(config_);
  const fs::path file = folder_ / "a/3.txt";
  const std::string manifest = test::slurp(prepared() / "manifest.json");
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::hours(1));
  EXPECT_FALSE(opening_rebuilds());
  EXPECT_NE(test::slurp(prepared() / "manifest.json"), manifest);  // remembers the new time
}

TEST_F(DatasetTest, ADamagedFolderIsMadeAgain) {
  const std::string fingerprint = open_dataset(config_).fingerprint;
  for (const char* name :
       {"manifest.json", "tokenizer.json", "a.train.bin", "a.validation.bin", "b.train.bin", "b.validation.bin"}) {
    std::string content = test::slurp(prepared() / name);
    const std::string good = content;
    content[content.size() / 2] = static_cast<char>(content[content.size() / 2] ^ 1);
    write_text(prepared() / name, content);
    if (std::string(name) != "manifest.json") {
      EXPECT_TRUE(opening_rebuilds()) << name;  // a flipped manifest may still say the same
    }
    write_text(prepared() / name, good.substr(0, good.size() / 2));
    EXPECT_TRUE(opening_rebuilds()) << name;
    fs::remove(prepared() / name);
    EXPECT_TRUE(opening_rebuilds()) << name;
    EXPECT_EQ(open_dataset(config_).fingerprint, fingerprint);
  }
  fs::copy_file(prepared() / "b.train.bin", prepared() / "a.train.bin", fs::copy_options::overwrite_existing);
  EXPECT_TRUE(opening_rebuilds());  // a good shard in a wrong place
}

TEST_F(DatasetTest, MalformedManifestsAreMadeAgain) {
  const std::string fingerprint = open_dataset(config_).fingerprint;
  for (const char* manifest :
       {"", "{}", "[]", "null", "{\"format\":1}", "{\"format\":\"1\",\"inputs\":[],\"files\":[]}",
        "{\"format\":1,\"inputs\":7,\"files\":[]}", "{\"format\":1,\"inputs\":[1],\"files\":[]}",
        "{\"format\":2,\"inputs\":[],\"files\":[]}"}) {
    write_text(prepared() / "manifest.json", manifest);
    EXPECT_TRUE(opening_rebuilds()) << manifest;
  }
  EXPECT_EQ(open_dataset(config_).fingerprint, fingerprint);
}

TEST(CacheManifest, NumbersAreWhole) {
  const test::TemporaryFolder folder;
  const auto write = [&](const std::string& size) {
    write_text(folder / "manifest.json",
               R"({"format": 1, "files": [], "inputs": [{"source": "a", "path": "b", "checksum": "", "mtime_ns": 3, )"
               R"("size": )" +
                   size + "}]}");
  };
  write("12");
  EXPECT_EQ(read_cache_manifest(folder.path()).inputs.at(0).size, 12);
  for (const char* size : {"1e300", "12.5", "true", "null"}) {
    write(size);
    test::expect_data_error([&] { read_cache_manifest(folder.path()); }, {"manifest.json", "of another type"});
  }
}

TEST_F(DatasetTest, LeftoversOfKilledBuildersGo) {
  open_dataset(config_);
  const std::string key = prepared().filename().string();
  fs::create_directory(folder_ / ("cache/.tmp-" + key + "-1"));
  fs::rename(folder_ / ("cache/" + key), folder_ / ("cache/.tmp-" + key + "-2-old"));
  open_dataset(config_);
  EXPECT_EQ(prepared().filename().string(), key);
  fs::create_directory(folder_ / "cache/.tmp-of-other-choices-1");
  open_dataset(config_);
  EXPECT_EQ(prepared().filename().string(), key);
}

TEST_F(DatasetTest, WhatIsNotTextIsRefused) {
  const auto with_file = [&](const std::string& name, const std::string& content, TextEncoding encoding) {
    write_text(folder_ / "c" / name, content);
    config_.data.sources = {{.name = "c", .files = {(folder_ / "c" / name).string()}, .encoding = encoding}};
    open_dataset(config_);
  };
  const std::string plain(3000, 'a');
  using namespace std::string_literals;
  for (const std::string& magic : {"\xfd"
                                   "7zXZ\0"s,
                                   "\x28\xb5\x2f\xfd"s, "PAR1"s, "BZh9"s, "PK\x03\x04"s, "\x1f\x8b\x08"s,
                                   "\xff\xfe"
                                   "a\0"s,
                                   "\xfe\xff\0a"s}) {
    expect_data_error([&] { with_file("x.txt", magic + plain, TextEncoding::kUtf8); }, {"x.txt", "encoding: bytes"});
    expect_data_error([&] { with_file("x.txt", magic + plain, TextEncoding::kLatin1); }, {"x.txt", "encoding: bytes"});
    with_file("x.txt", magic + plain, TextEncoding::kBytes);
  }
  std::string utf16;
  for (int i = 0; i < 3000; ++i) utf16 += "a\0"s;
  expect_data_error([&] { with_file("y.txt", utf16, TextEncoding::kUtf8); },
                    {"source 'c'", "of 6,000 bytes 0 are not UTF-8 and 3,000 are zero (50 %)", "y.txt"});
  expect_data_error([&] { with_file("z.txt", plain + "\xe9\xe9\xe9\xe9", TextEncoding::kUtf8); },
                    {"of 3,004 bytes 4 are not UTF-8", "(0.13 %)", "latin-1"});
  with_file("z.txt", plain + "\xe9", TextEncoding::kUtf8);  // a few are warned of
}

TEST_F(DatasetTest, Latin1BecomesUtf8) {
  write_text(folder_ / "c/x.txt", std::string(3000, '\xe9') + "abc\n");
  config_.data.sources = {{.name = "c", .files = {(folder_ / "c/x.txt").string()}, .encoding = TextEncoding::kLatin1}};
  const Dataset dataset = open_dataset(config_);
  EXPECT_EQ(dataset.domains[0].train.num_tokens() + dataset.domains[0].validation.num_tokens(), 2 * 3000 + 4 + 2);
  EXPECT_TRUE(text_of(dataset, dataset.domains[0].train).starts_with("éééé"));
  config_.data.sources[0].encoding = TextEncoding::kBytes;  // another choice, another cache
  EXPECT_TRUE(text_of(open_dataset(config_), open_dataset(config_).domains[0].train).starts_with("\xe9\xe9"));
}

TEST_F(DatasetTest, TextIsReadWithTheTokenizerThatIsGiven) {
  config_.data.tokenizer = "char";
  const auto tokenizer = open_dataset(config_).tokenizer;
  const fs::path own = prepared();
  EXPECT_EQ(open_dataset(config_, *tokenizer).tokenizer->serialize(), tokenizer->serialize());
  EXPECT_EQ(prepared(), own);  // which are these very tokens
  write_text(folder_ / "b/more.txt", "XYZ\n   what it means\n\n");
  const Dataset other = open_dataset(config_, *tokenizer);
  EXPECT_EQ(other.tokenizer->serialize(), tokenizer->serialize());
  EXPECT_NE(text_of(other, other.domains[1].train).find("entry"), std::string::npos);
  EXPECT_NE(open_dataset(config_).tokenizer->vocab_size(), tokenizer->vocab_size());  // X, Y and Z are in that one
  EXPECT_EQ(open_dataset(config_, *tokenizer).fingerprint, other.fingerprint);
  const auto bytes = make_byte_tokenizer();
  const std::string of_bytes = open_dataset(config_, *bytes).fingerprint;
  config_.data.tokenizer = "byte";
  EXPECT_EQ(open_dataset(config_).fingerprint, of_bytes);
  // The file of a tokenizer may be gone.
  config_.data.tokenizer = "sentencepiece:" + (folder_ / "none.model").string();
  EXPECT_EQ(open_dataset(config_, *bytes).fingerprint, of_bytes);
}

TEST_F(DatasetTest, AFailureLeavesNothingHalfDone) {
  const std::string fingerprint = open_dataset(config_).fingerprint;
  write_text(folder_ / "a/bad.gz", "not gzip");
  config_.data.sources[0].files.push_back((folder_ / "a/*.gz").string());
  expect_data_error([&] { open_dataset(config_); }, {"bad.gz"});
  config_.data.sources[0].files.pop_back();
  EXPECT_FALSE(opening_rebuilds());
  EXPECT_EQ(open_dataset(config_).fingerprint, fingerprint);
}

TEST_F(DatasetTest, ManyAtOnceAgree) {
  std::vector<std::string> fingerprints(6);
  {
    std::vector<std::jthread> threads;
    for (std::string& fingerprint : fingerprints) {
      threads.emplace_back([&] { fingerprint = open_dataset(config_).fingerprint; });
    }
  }
  EXPECT_THAT(fingerprints, testing::Each(fingerprints[0]));
  EXPECT_EQ(fingerprints[0].size(), 32u);
  prepared();  // exactly one folder
}

std::string trained_model(int64_t vocab_size) {
  const std::string text = "some words to train on, some words and some more of them";
  const auto tokenizer = train_sentencepiece(std::vector<std::string_view>{text}, vocab_size);
  return decode_base64(Json::parse(tokenizer->serialize())["model"].get<std::string>(), "model");
}

TEST_F(DatasetTest, UsesAGivenModelAndSeesItChange) {
  const fs::path model = write_text(folder_ / "given.model", trained_model(285));
  config_.data.tokenizer = "sentencepiece:" + model.string();
  EXPECT_EQ(open_dataset(config_).tokenizer->vocab_size(), 285);
  EXPECT_FALSE(opening_rebuilds());
  write_text(model, trained_model(290));
  EXPECT_TRUE(opening_rebuilds());
  EXPECT_EQ(open_dataset(config_).tokenizer->vocab_size(), 290);
}

TEST_F(DatasetTest, UsesATokenizerJsonAndSeesItsNeighboursChange) {
  const fs::path file = write_text(folder_ / "tokenizer.json", R"({"model": {"type": "WordLevel", "unk_token": "?",
      "vocab": {"?": 0, "<eos>": 1, "</s>": 2}}})");
  config_.data.tokenizer = "huggingface:" + file.string();
  EXPECT_EQ(open_dataset(config_).tokenizer->end_of_text(), 2);
  EXPECT_FALSE(opening_rebuilds());
  write_text(folder_ / "tokenizer_config.json", R"({"eos_token": "<eos>"})");
  EXPECT_TRUE(opening_rebuilds());
  EXPECT_EQ(open_dataset(config_).tokenizer->end_of_text(), 1);
}

TEST_F(DatasetTest, NamesAModelThatIsMissingOrBad) {
  config_.data.tokenizer = "sentencepiece:" + (folder_ / "none.model").string();
  expect_data_error([&] { open_dataset(config_); }, {"none.model"});
  config_.data.tokenizer = "sentencepiece:" + write_text(folder_ / "bad.model", "bad").string();
  expect_data_error([&] { open_dataset(config_); }, {"bad.model"});
}

TEST_F(DatasetTest, WrongConfigurationsAreNamed) {
  const auto expect = [&](const auto& change, const std::vector<std::string>& parts) {
    Config config = config_;
    change(config);
    expect_data_error([&] { open_dataset(config); }, parts);
  };
  expect([](Config& c) { c.data.sources.clear(); }, {"data.sources", "files:"});
  expect([](Config& c) { c.data.sources[1].name = "a"; }, {"'a'", "twice"});
  for (const char* name : {"", "..", ".x", "a/b", "a b", "\xC3\xA9"}) {
    expect([&](Config& c) { c.data.sources[0].name = name; }, {std::string("'") + name + "'", "letters"});
  }
  expect([](Config& c) { c.data.sources[0].weight = -1; }, {"'a'", "weight"});
  expect([](Config& c) { c.data.sources[0].weight = std::nan(""); }, {"'a'", "weight"});
  expect([](Config& c) { c.data.sources[0].weight = c.data.sources[1].weight = 0; }, {"weights", "above 0"});
  expect([](Config& c) { c.data.sources[0].files = {"/nowhere/*.txt"}; }, {"'a'", "/nowhere/*.txt"});
  expect([](Config& c) { c.data.sources[0].files.clear(); }, {"'a'", "no files"});
  expect([](Config& c) { c.data.tokenizer = "word"; }, {"'word'", "sentencepiece:FILE"});
  expect([](Config& c) { c.data.validation_fraction = 0; }, {"validation_fraction"});
  expect([](Config& c) { c.model.vocab_size = 256; }, {"model.vocab_size is 256", "257"});
  expect([](Config& c) { c.data.cache_dir = "/dev/null/cache"; }, {"/dev/null"});
  config_.model.vocab_size = 1000;  // larger than needed is fine
  EXPECT_EQ(open_dataset(config_).tokenizer->vocab_size(), 257);
}

}  // namespace
}  // namespace switchyard
