#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "checkpoint/huggingface/folder.h"
#include "checkpoint/huggingface/tokenizer_files.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::slurp;
using test::spill;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";

// A folder with tensors "a" and "b" in one file each.
class HfFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_hf_folder(path_, {{"config.json", "{}"}}, {tensor("a", 2), tensor("b", 3)}, /*shard_bytes=*/1);
    ASSERT_EQ(slurp_index().at("weight_map").size(), 2U);
  }

  static HfTensor tensor(const std::string& name, int64_t size) {
    return {name, static_cast<uint64_t>(size) * 4, [size] { return torch::arange(size, torch::kFloat32); }};
  }
  Json slurp_index() const { return Json::parse(slurp(path_ / kIndex)); }
  void map_to(const Json& file, const std::string& name = "a") {
    Json index = slurp_index();
    index["weight_map"][name] = file;
    spill(path_ / kIndex, index.dump());
  }
  std::string error() const {
    return message_of<CheckpointError>([&] { HfFolder{path_}; });
  }

  TemporaryFolder folder_{test::memory_folder()};
  fs::path path_ = folder_ / "hf";
};

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

TEST_F(HfFolderTest, ReadsWhatWasWritten) {
  const HfFolder found(path_);
  EXPECT_EQ(found.tensors().size(), 2U);
  EXPECT_TRUE(torch::equal(found.load("b"), torch::arange(3, torch::kFloat32)));
  EXPECT_THAT(message_of<CheckpointError>([&] { found.load("c"); }), HasSubstr("'c' is missing"));
  EXPECT_EQ(slurp_index().at("metadata").at("total_size"), 20);
  EXPECT_EQ(SafetensorsFile(path_ / kFirst).metadata().at("format"), "pt");
}

TEST_F(HfFolderTest, PathsInAnIndexAreRefused) {
  fs::copy_file(path_ / kFirst, folder_ / kFirst);
  for (const std::string& name :
       {std::string("../") + kFirst, (path_ / kFirst).string(), std::string("./") + kFirst, std::string(".."),
        std::string("."), std::string(), std::string("a\\b"), std::string("a\nb"), std::string("x\0y", 3)}) {
    map_to(name);
    EXPECT_THAT(error(), AllOf(HasSubstr(kIndex), HasSubstr("it must be a plain name"))) << name;
  }
  for (const Json& value : {Json(1), Json(nullptr), Json::array({kFirst}), Json(true)}) {
    map_to(value);
    EXPECT_THAT(error(), HasSubstr("'a' is mapped to"));
  }
}

TEST_F(HfFolderTest, LinksAreRefused) {
  for (const char* name : {kFirst, "config.json", kIndex}) {
    fs::rename(path_ / name, folder_ / "elsewhere");
    fs::create_symlink(folder_ / "elsewhere", path_ / name);
    EXPECT_THAT(error(), AllOf(HasSubstr(name), HasSubstr("is a link")));
    fs::remove(path_ / name);
    fs::create_directory(path_ / name);
    EXPECT_THAT(error(), AllOf(HasSubstr(name), HasSubstr("no regular file")));
    fs::remove(path_ / name);
    EXPECT_THAT(error(), HasSubstr("is missing"));
    fs::rename(folder_ / "elsewhere", path_ / name);
  }
  EXPECT_EQ(error(), "");
}

TEST_F(HfFolderTest, IndexAndFilesMustAgree) {
  map_to(kSecond);
  EXPECT_THAT(error(), HasSubstr("'a' is in '" + std::string(kSecond) + "', but it is not"));
  map_to("model-00003-of-00003.safetensors");
  EXPECT_THAT(error(), HasSubstr("model-00003-of-00003.safetensors is missing"));
  map_to(kFirst);
  map_to(kFirst, "c");
  EXPECT_THAT(error(), HasSubstr("'c' is in '" + std::string(kFirst)));
  Json index = slurp_index();
  index["weight_map"].erase("c");
  spill(path_ / kIndex, index.dump());
  write_safetensors(path_ / kSecond, {{"b", torch::zeros({3})}, {"hidden", torch::zeros({1})}});
  EXPECT_THAT(error(), HasSubstr("'hidden' is not in the index"));
  write_safetensors(path_ / kSecond, {{"b", torch::zeros({3})}, {"a", torch::zeros({2})}});
  EXPECT_THAT(error(), HasSubstr("'a' is in another file, too"));
  fs::copy_file(path_ / kFirst, path_ / "model.safetensors");
  EXPECT_THAT(error(), HasSubstr("holds both"));
}

TEST_F(HfFolderTest, BrokenIndexesAreRefused) {
  for (const char* text : {"", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": {}})", R"({"weight_map": 3})",
                           R"({"weight_map": {"a": "x", "a": "y"}})", "{\"weight_map\": "}) {
    spill(path_ / kIndex, text);
    EXPECT_THAT(error(), HasSubstr(kIndex)) << text;
  }
}

TEST_F(HfFolderTest, DamagedTensorFilesAreRefused) {
  const std::string bytes = slurp(path_ / kFirst);
  for (const std::string& damaged : {bytes.substr(0, bytes.size() - 1), bytes + "x", std::string("abc")}) {
    spill(path_ / kFirst, damaged);
    EXPECT_THAT(error(), HasSubstr(kFirst));
  }
  EXPECT_THAT(message_of<CheckpointError>([&] { HfFolder{folder_ / "nothing"}; }), HasSubstr("there is no folder"));
}

TEST(HfTokenizer, FilesComeBackAsTheSameTokenizer) {
  const TemporaryFolder folder;
  const auto back = [&](const Tokenizer& tokenizer) {
    for (const auto& [name, text] : hf_tokenizer_files(tokenizer)) spill(folder / name, text);
    FolderTokenizer found = read_hf_tokenizer(folder.path(), "");
    EXPECT_EQ(found.tokenizer->serialize(), tokenizer.serialize());
    return found;
  };
  const std::string text = "an apple, a pear and a plum; " + std::string(200, 'x');
  const std::vector<std::string_view> texts = {text};
  const auto pieces = train_sentencepiece(texts, 280);
  const FolderTokenizer sentencepiece = back(*pieces);
  EXPECT_EQ(sentencepiece.config_value, "sentencepiece:tokenizer.model");
  EXPECT_EQ(sentencepiece.files.at("tokenizer.model"), slurp(folder / "tokenizer.model"));
  EXPECT_EQ(back(*make_byte_tokenizer()).config_value, "byte");
  EXPECT_EQ(back(*make_char_tokenizer(texts)).config_value, "char");
  // A choice goes before what is there.
  const auto chosen = read_hf_tokenizer(folder.path(), "sentencepiece:" + (folder / "tokenizer.model").string());
  EXPECT_EQ(chosen.tokenizer->serialize(), pieces->serialize());
}

TEST(HfTokenizer, TokenizerJsonComesBackAsItWas) {
  const TemporaryFolder folder;
  for (const auto& [name, text] : hf_tokenizer_files(*make_byte_tokenizer())) spill(folder / name, text);
  fs::remove(folder / "switchyard-tokenizer.json");
  const FolderTokenizer found = read_hf_tokenizer(folder.path(), "");
  EXPECT_EQ(found.config_value, "huggingface:huggingface-tokenizer.json");
  EXPECT_EQ(found.files.at("huggingface-tokenizer.json"), slurp(folder / "tokenizer.json"));
  const std::string text = "a\xC3\xB1 \n<|endoftext|";
  EXPECT_EQ(found.tokenizer->encode(text), make_byte_tokenizer()->encode(text));
  EXPECT_EQ(found.tokenizer->end_of_text(), 256);
  EXPECT_EQ(hf_tokenizer_files(*found.tokenizer).at("tokenizer.json"), slurp(folder / "tokenizer.json"));
  EXPECT_EQ(hf_tokenizer_files(*found.tokenizer).at("tokenizer_config.json"), slurp(folder / "tokenizer_config.json"));
  // From the checkpoint it is the same tokenizer again.
  for (const auto& [name, content] : found.files) spill(folder / name, content);
  const auto again =
      read_hf_tokenizer(folder.path(), "huggingface:" + (folder / "huggingface-tokenizer.json").string());
  EXPECT_EQ(again.tokenizer->serialize(), found.tokenizer->serialize());
}

TEST(HfTokenizer, WhatIsNotThereOrNotRead) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& choice) {
    return message_of<Error>([&] { read_hf_tokenizer(folder.path(), choice); });
  };
  EXPECT_THAT(error(""), HasSubstr("--tokenizer"));
  EXPECT_THAT(error("char"), HasSubstr("'char'"));
  EXPECT_THAT(error("sentencepiece:nowhere"), HasSubstr("nowhere"));
  spill(folder / "elsewhere", "{}");
  fs::create_symlink(folder / "elsewhere", folder / "tokenizer.model");
  EXPECT_THAT(error(""), HasSubstr("is a link"));
  spill(folder / "switchyard-tokenizer.json", R"({"type": "other"})");
  EXPECT_THAT(error(""), HasSubstr("'other'"));
}

}  // namespace
}  // namespace switchyard
