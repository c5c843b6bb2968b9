#include <sentencepiece_trainer.h>

#include <cstring>

#include "base/json.h"
#include "data/base64.h"
#include "data/sentencepiece_model.h"
#include "data/sentencepiece_tokenizer.h"
#include "tests/data/tokenizer_helpers.h"
#include "tests/support/sentencepiece_bytes.h"

namespace switchyard {
namespace {

using test::expect_data_error;
using test::expect_round_trip;
using test::message_field;
using test::nasty_texts;
using test::normalizer_of_nested_keys;
using test::number_field;
using test::small_sentencepiece;
using test::training_text;

TEST(SentencePiece, DecodingGivesBackAnyText) {
  const auto tokenizer = small_sentencepiece();
  EXPECT_EQ(tokenizer->vocab_size(), 320);
  expect_round_trip(*tokenizer);
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{tokenizer->end_of_text()}), "");
  expect_data_error([&] { tokenizer->decode(std::vector<int32_t>{320}); }, {"320"});
  expect_data_error([&] { tokenizer->decode(std::vector<int32_t>{-1}); }, {"-1"});
}

TEST(SentencePiece, MergesFrequentWords) {
  const auto tokenizer = small_sentencepiece();
  EXPECT_EQ(tokenizer->encode(" experts").size(), 1u);
  EXPECT_EQ(tokenizer->encode(" experts experts\n").size(), 3u);
}

TEST(SentencePiece, TrainingIsDeterministic) {
  EXPECT_EQ(small_sentencepiece()->serialize(), small_sentencepiece()->serialize());
}

// Cutting texts into chunks and remembering what they gave must not change what the library gives for the whole.
TEST(SentencePiece, ChunksEncodeAsTheWholeDoes) {
  const auto tokenizer = small_sentencepiece();
  sentencepiece::SentencePieceProcessor library;
  const Json json = Json::parse(tokenizer->serialize());
  ASSERT_TRUE(library.LoadFromSerializedProto(decode_base64(json["model"].get<std::string>(), "")).ok());
  const std::string text = training_text() + "  unseen   words\n\tat  the end 12345 (x)(x)  ";
  const std::vector<int> whole = library.EncodeAsIds(text);
  EXPECT_EQ(tokenizer->encode(text), std::vector<int32_t>(whole.begin(), whole.end()));
}

TEST(SentencePiece, SaysWhichVocabularyIsPossible) {
  const std::vector<std::string_view> text = {"a few words and no more"};
  expect_data_error([&] { train_sentencepiece(text, 8192); }, {"8192", "at most", "model.vocab_size"});
  expect_data_error([&] { train_sentencepiece(text, 262); }, {"262", "alone take", "larger model.vocab_size"});
  expect_data_error([&] { train_sentencepiece(text, 258); }, {"between 259 and"});
  expect_data_error([&] { train_sentencepiece(text, int64_t{1} << 40); }, {"between 259 and"});
  expect_data_error([&] { train_sentencepiece({}, 300); }, {"no text"});
  expect_data_error([&] { train_sentencepiece(std::vector<std::string_view>{"\n\n\t"}, 300); }, {"no text"});
}

// A model as others train them: a character map, a dummy prefix, no byte pieces.
std::string foreign_model() {
  class Lines : public sentencepiece::SentenceIterator {
   public:
    bool done() const override { return left_ == 0; }
    void Next() override { --left_; }
    const std::string& value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    int left_ = 50;
    std::string line_ = "the router sends tokens to experts";
  } lines;
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train({{"model_type", "unigram"},
                                                                  {"vocab_size", "40"},
                                                                  {"hard_vocab_limit", "false"},
                                                                  {"num_threads", "1"},
                                                                  {"minloglevel", "3"}},
                                                                 &lines, &model);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return model;
}

TEST(SentencePiece, LoadsAModelOfOthers) {
  const test::TemporaryFolder folder;
  const auto tokenizer = load_sentencepiece(test::write_text(folder / "other.model", foreign_model()));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("the  router \xEF\xBD\x94o")),
            "the router to");  // its own normalisation
  EXPECT_EQ(deserialize_tokenizer(tokenizer->serialize(), "x")->encode("tokens"), tokenizer->encode("tokens"));
  for (const std::string& text : nasty_texts()) tokenizer->decode(tokenizer->encode(text));
}

TEST(SentencePiece, BadFilesAreDataErrors) {
  const test::TemporaryFolder folder;
  expect_data_error([&] { load_sentencepiece(folder / "none.model"); }, {"none.model"});
  expect_data_error([&] { load_sentencepiece(test::write_text(folder / "empty.model", "")); }, {"empty.model"});
  expect_data_error([&] { load_sentencepiece(test::write_text(folder / "text.model", "not a model")); },
                    {"text.model"});
}

// Whatever a broken model does, it must end in a DataError or a tokenizer that stays inside its vocabulary.
void try_broken_model(std::string model) {
  try {
    const auto tokenizer = make_sentencepiece_tokenizer(std::move(model), "broken");
    for (const char* text : {"the router sends", "\xEF\xBD\x81 \xE2\x91\xA0 \xC3\xA9", "\n\xFF"}) {
      const std::vector<int32_t> ids = tokenizer->encode(text);
      for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < tokenizer->vocab_size());
      tokenizer->decode(ids);
    }
  } catch (const DataError&) {
  }
}

TEST(SentencePiece, BrokenModelsDoNoHarm) {
  const std::string foreign = foreign_model();
  const std::string own =
      decode_base64(Json::parse(small_sentencepiece()->serialize())["model"].get<std::string>(), "");
  test::Words words(11);
  for (const std::string& good : {foreign, own}) {
    for (int round = 0; round < 150; ++round) {
      std::string bad = good;
      if (round % 3 == 0) bad.resize(words.below(bad.size()));
      for (uint64_t edit = 0; edit <= words.below(4) && !bad.empty(); ++edit) {
        bad[words.below(bad.size())] = static_cast<char>(words.next());
      }
      try_broken_model(bad);
    }
  }
}

TEST(SentencePiece, CharacterMapThatPointsOutsideIsRefused) {
  std::string model = foreign_model();
  const size_t name = model.find("nmt_nfkc");
  ASSERT_NE(name, std::string::npos);
  // after the name: tag 0x12, a varint length of three bytes, u32 size of the double array, its units
  const size_t units = name + 8 + 1 + 3 + 4;
  ASSERT_EQ(model[name + 8], '\x12');
  for (const char* unit : {"\xFF\xFF\xFF\x7F", "\xFF\xFF\xFF\xFF"}) {
    std::string bad = model;
    bad.replace(units, 4, unit, 4);
    expect_data_error([&] { make_sentencepiece_tokenizer(bad, "bad.model"); }, {"bad.model", "character map"});
  }
  std::string bad = model;
  bad.replace(units - 4, 4, "\0\0\0\x10", 4);
  expect_data_error([&] { make_sentencepiece_tokenizer(bad, "bad.model"); }, {"character map"});
}

TEST(SentencePiece, MoreMatchesThanTheLibraryHasRoomForAreRefused) {
  EXPECT_FALSE(inspect_sentencepiece_model(normalizer_of_nested_keys(32), "model").keeps_text);
  expect_data_error([] { inspect_sentencepiece_model(normalizer_of_nested_keys(33), "bad"); },
                    {"bad", "character map"});
  std::string pieces;
  for (size_t length = 1; length <= 65; ++length) {
    EXPECT_NO_THROW(inspect_sentencepiece_model(pieces, "model"));
    pieces += message_field(1, message_field(1, std::string(length, 'a')) + number_field(3, 4));  // user-defined
    pieces += message_field(1, message_field(1, std::string(100 + length, 'a')));
  }
  expect_data_error([&] { inspect_sentencepiece_model(pieces, "bad"); }, {"bad has more than 64 user-defined pieces"});
}

TEST(SentencePiece, CharacterMapThatGoesInCirclesIsRefused) {
  std::string model = normalizer_of_nested_keys(2);
  const size_t last = model.size() - 1 - 4 * 1024 + 4 * (256 * 2 + 'a');
  ASSERT_EQ(model[last], 'a');  // the key "aa", whose children are now those of "a"
  const uint32_t unit = 'a' | 256 | ((256 * 2 ^ 'a') ^ (256 * 2)) << 10;
  std::memcpy(model.data() + last, &unit, sizeof(unit));
  expect_data_error([&] { inspect_sentencepiece_model(model, "bad"); }, {"bad", "character map"});
}

TEST(SentencePiece, PiecesThatTheLibraryChokesOnAreRefused) {
  for (const std::string& text : {std::string(1 << 20, 'a'), std::string(8001, 'a'), std::string("a\0b", 3)}) {
    const std::string model = message_field(1, message_field(1, text)) + message_field(1, message_field(1, "b"));
    expect_data_error([&] { make_sentencepiece_tokenizer(model, "bad"); },
                      {"bad", "a piece is longer than 8000 bytes"});
  }
}

// Field 3, the normalizer, plus 2^29: the library would read a character map there that nobody has checked.
TEST(SentencePiece, FieldNumbersThatWrapAroundAreRefused) {
  expect_data_error([] { make_sentencepiece_tokenizer(std::string("\x9a\x80\x80\x80\x10\x00", 6), "bad.model"); },
                    {"bad.model", "a field with number 536870915"});
}

}  // namespace
}  // namespace switchyard
