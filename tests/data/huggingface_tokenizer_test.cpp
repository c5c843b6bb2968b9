#include "data/tokenizers/huggingface/huggingface_tokenizer.h"

#include <algorithm>

#include "base/errors.h"
#include "base/json.h"
#include "data/tokenizer_choice.h"
#include "data/tokenizers/huggingface/pair_merges.h"
#include "data/tokenizers/huggingface/regex.h"
#include "data/tokenizers/huggingface/unicode_forms.h"
#include "tests/data/helpers.h"

namespace switchyard {
namespace {

using test::expect_data_error;
using Ids = std::vector<int32_t>;

// GPT-2's form: bytes as characters, "Ġ" for a space.
Json byte_level_file() {
  const Json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 7}, {"content", "<|endoftext|>"}, {"special", true}, {"normalized", false}}}},
          {"pre_tokenizer", level},
          {"decoder", level},
          {"model",
           {{"type", "BPE"},
            {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"Ġ", 3}, {"ab", 4}, {"Ġa", 5}, {"Ã", 6}}},
            {"merges", {"a b", "Ġ a"}}}}};
}

std::unique_ptr<Tokenizer> made_of(const Json& file) {
  return make_huggingface_tokenizer(file.dump(), {"<|endoftext|>"}, "tokenizer.json");
}

// `file` with the value at a JSON pointer replaced.
Json with(const char* pointer, const Json& value) {
  Json file = byte_level_file();
  file[Json::json_pointer(pointer)] = value;
  return file;
}

TEST(HuggingFaceTokenizer, ByHand) {
  const auto tokenizer = made_of(byte_level_file());
  EXPECT_EQ(tokenizer->vocab_size(), 8);
  EXPECT_EQ(tokenizer->end_of_text(), 7);
  EXPECT_EQ(tokenizer->encode(""), Ids());
  EXPECT_EQ(tokenizer->encode("abc ab"), (Ids{4, 2, 3, 4}));  // "a b" comes before "Ġ a"
  EXPECT_EQ(tokenizer->encode("ab<|endoftext|> a"), (Ids{4, 7, 5}));
  EXPECT_EQ(tokenizer->encode("a\xC3z"), (Ids{0}));  // bytes that the vocabulary lacks, and no unk_token
  EXPECT_EQ(tokenizer->decode(Ids{4, 2, 7, 5, 1}), "abc ab");
  EXPECT_EQ(tokenizer->decode(Ids{6}), "\xC3");  // a byte stays one
  expect_data_error([&] { tokenizer->decode(Ids{8}); }, {"token 8", "vocabulary of 8"});
}

TEST(HuggingFaceTokenizer, SettingsOfBpe) {
  Json file = with("/model/unk_token", "c");
  EXPECT_EQ(made_of(file)->encode("azzb"), (Ids{0, 2, 2, 1}));
  file["model"]["fuse_unk"] = true;
  EXPECT_EQ(made_of(file)->encode("azzb"), (Ids{0, 2, 1}));
  file["model"]["vocab"]["<0x7A>"] = 8;
  file["model"]["byte_fallback"] = true;
  EXPECT_EQ(made_of(file)->encode("azb"), (Ids{0, 8, 1}));
  file = with("/model/vocab/abc", 8);
  EXPECT_EQ(made_of(file)->encode("abc"), (Ids{4, 2}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(made_of(file)->encode("abc"), (Ids{8}));
}

TEST(HuggingFaceTokenizer, AddedTokensTakeSpacesAndWholeWords) {
  Json file = byte_level_file();
  file["added_tokens"].push_back(
      {{"id", 8}, {"content", "<m>"}, {"lstrip", true}, {"rstrip", true}, {"special", true}});
  file["added_tokens"].push_back({{"id", 9}, {"content", "cab"}, {"single_word", true}});
  const auto tokenizer = made_of(file);
  EXPECT_EQ(tokenizer->encode("a <m>  ab"), (Ids{0, 8, 4}));
  EXPECT_EQ(tokenizer->encode("cab cabc"), (Ids{9, 3, 2, 4, 2}));
}

TEST(HuggingFaceTokenizer, EndOfTextOfATemplateIsLeftToTheCaller) {
  const auto special = [](int32_t id, const char* name) {
    return Json{{"id", name}, {"ids", {id}}, {"tokens", {name}}};
  };
  const auto token = [](const char* name) { return Json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; };
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json file =
      with("/post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {token("c"), text, token("<|endoftext|>")}},
            {"pair", Json::array()},
            {"special_tokens", {{"c", special(2, "c")}, {"<|endoftext|>", special(7, "<|endoftext|>")}}}});
  EXPECT_EQ(made_of(file)->encode("ab"), (Ids{2, 4}));
}

TEST(HuggingFaceTokenizer, TravelsWhole) {
  const auto tokenizer = made_of(byte_level_file());
  const auto again = deserialize_tokenizer(tokenizer->serialize(), "copy");
  EXPECT_EQ(again->serialize(), tokenizer->serialize());
  EXPECT_EQ(again->encode("abc ab"), tokenizer->encode("abc ab"));
  EXPECT_EQ(again->end_of_text(), 7);
}

TEST(HuggingFaceTokenizer, NeighboursSayWhatEndsAText) {
  const test::TemporaryFolder folder;
  const std::string choice =
      "huggingface:" + test::write_text(folder / "tokenizer.json", byte_level_file().dump()).string();
  EXPECT_EQ(load_tokenizer(choice)->end_of_text(), 7);  // a usual name
  test::write_text(folder / "config.json", R"({"eos_token_id": [2, 7]})");
  EXPECT_EQ(load_tokenizer(choice)->end_of_text(), 2);
  test::write_text(folder / "tokenizer_config.json", R"({"eos_token": {"content": "ab"}})");
  EXPECT_EQ(load_tokenizer(choice)->end_of_text(), 4);
  EXPECT_EQ(files_of_tokenizer(choice).size(), 3);
  test::write_text(folder / "tokenizer_config.json", "{");
  expect_data_error([&] { load_tokenizer(choice); }, {"tokenizer_config.json", "not valid JSON"});
}

TEST(HuggingFaceTokenizer, BadFilesAreDataErrors) {
  const auto expect = [](const char* pointer, const Json& value, const std::vector<std::string>& words) {
    SCOPED_TRACE(value.dump());
    expect_data_error([&] { made_of(with(pointer, value)); }, words);
  };
  expect("/version", "2.0", {"tokenizer.json: version", "'2.0'", "1.0"});
  expect("/model", nullptr, {"tokenizer.json", "model"});
  expect("/model/type", "CRF", {"model", "'CRF'", "BPE, Unigram, WordPiece or WordLevel"});
  expect("/model/vocab/a", -1, {"model.vocab['a']", "whole number"});
  expect("/model/vocab/a", 1e12, {"model.vocab['a']", "whole number"});
  expect("/model/vocab/a", int64_t{1} << 40, {"model.vocab['a']", "whole number"});
  expect("/model/dropout", 0.1, {"model.dropout", "null"});
  expect("/model/merges", Json::array({"a b", "a z"}), {"model.merges[1]", "'z'", "vocabulary"});
  expect("/model/merges", Json::array({"ab"}), {"model.merges[0]", "two tokens"});
  expect("/model/merges", Json::array({Json::array({"a", "b", "c"})}), {"model.merges[0]", "two tokens"});
  expect("/normalizer", {{"type", "Precompiled"}}, {"normalizer", "'Precompiled'", "NFKC"});
  expect("/pre_tokenizer", {{"type", "UnicodeScripts"}}, {"pre_tokenizer", "'UnicodeScripts'", "ByteLevel"});
  expect("/decoder", {{"type", "CTC"}}, {"decoder", "'CTC'", "ByteFallback"});
  expect("/post_processor", {{"type", "Other"}}, {"post_processor", "'Other'"});
  expect("/added_tokens", Json::array(), {"no token that ends a text", "eos_token"});
  Json deep = {{"type", "Lowercase"}};
  for (int i = 0; i < 40; ++i) deep = {{"type", "Sequence"}, {"normalizers", {deep}}};
  expect("/normalizer", deep, {"tokenizer.json", "nested deeper"});
  expect_data_error([] { make_huggingface_tokenizer("[1]", {}, "t.json"); }, {"t.json", "object"});
  expect_data_error([] { load_tokenizer("huggingface:none.json"); }, {"none.json"});
}

Json split_at(const std::string& regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

TEST(HuggingFaceTokenizer, HostileRulesEnd) {
  const auto catastrophic = made_of(with("/pre_tokenizer", split_at("(?:a+)+$")));
  expect_data_error([&] { catastrophic->encode(std::string(5000, 'a') + "b"); }, {"regular expression", "limit"});
  Json growing = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  const Json longer = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(200, 'a')}};
  for (int i = 0; i < 8; ++i) growing["normalizers"].push_back(longer);
  const auto grown = made_of(with("/normalizer", growing));
  expect_data_error([&] { grown->encode(std::string(1000, 'a')); }, {"normalizer", "64 times"});
  expect_data_error([] { made_of(with("/pre_tokenizer", split_at("(a"))); }, {"pre_tokenizer.pattern.Regex", "(a"});
  expect_data_error([] { made_of(with("/pre_tokenizer", split_at(std::string(100000, 'a')))); }, {"100000 bytes"});
}

TEST(HuggingFaceTokenizer, ManyMarksInARowAreOrderedInTime) {
  std::string marks = "e";
  for (int i = 0; i < 200000; ++i) marks += i % 2 == 0 ? "\xCC\x81" : "\xCC\xA3";  // above, below
  normalize_unicode(marks, {.composed = true});
  EXPECT_EQ(marks.substr(0, 5), "\xE1\xBA\xB9\xCC\xA3");  // e with a dot below
}

TEST(Regex, IsWrittenForPcre2) {
  const auto translated = [](const char* pattern) { return pcre2_syntax(pattern, "here"); };
  EXPECT_EQ(translated(R"( ?[^\s\p{L}]+|\s+(?!\S))"),
            R"( ?[^\p{White_Space}\p{L}]+|\p{White_Space}+(?!\P{White_Space}))");
  EXPECT_EQ(translated(R"(\p{N}{1,3}+x)"), R"((?:\p{N}{1,3})+x)");
  EXPECT_EQ(translated(R"((ab){2}?)"), R"((?:(ab){2})?)");
  EXPECT_EQ(translated(R"(a{,2}{|\u00e9)"), R"(a{0,2}\{|\x{00e9})");
  EXPECT_EQ(translated(R"((?m:.)(?i)\h)"), R"((?s:.)(?i)[0-9a-fA-F])");
  for (const char* pattern : {"[a[bc]]", "[a&&b]", R"(\X)", "(?~a)", "(?P<n>a)", "(*F)", "a)", "[a", "(?R)", "\\"}) {
    expect_data_error([&] { translated(pattern); }, {"here", "not known here"});
  }
}

TEST(PairMerges, LongWordsMergeAsShortOnesDo) {
  test::Words words(5);
  PairMerges merges(200);
  for (int32_t rank = 0; rank < 200; ++rank) {
    const auto known = static_cast<uint64_t>(4 + rank / 8);
    merges.set(static_cast<int32_t>(words.below(known)), static_cast<int32_t>(words.below(known)),
               {.rank = rank, .id = 4 + rank});
  }
  Ids ids;
  for (int i = 0; i < 300; ++i) ids.push_back(static_cast<int32_t>(words.below(4)));
  Ids wanted = ids;
  for (;;) {  // one after the other
    size_t best = wanted.size();
    PairMerge found;
    for (size_t i = 0; i + 1 < wanted.size(); ++i) {
      const PairMerge here = merges.find(wanted[i], wanted[i + 1]);
      if (here.rank < found.rank) {
        found = here;
        best = i;
      }
    }
    if (best == wanted.size()) break;
    wanted[best] = found.id;
    wanted.erase(wanted.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  EXPECT_LT(wanted.size(), ids.size());
  merge_pairs(merges, ids);
  EXPECT_EQ(ids, wanted);
}

}  // namespace
}  // namespace switchyard
