#include "data/tokenizers/huggingface/pre_tokenizer.h"

#include "base/errors.h"
#include "base/text.h"
#include "data/tokenizers/huggingface/byte_characters.h"
#include "data/tokenizers/huggingface/characters.h"
#include "data/tokenizers/huggingface/metaspace.h"
#include "data/tokenizers/huggingface/pattern.h"

namespace switchyard {
namespace {

constexpr size_t kMostSplits = 64;
constexpr size_t kMostSplitGrowth = 64;  // of a text by all steps

SplitBehavior read_behavior(const JsonPart& part) {
  const std::string& name = part.text();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  part.fail("is " + in_quotes(name) +
            "; it must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

// Cuts every piece where find(text, sections) says.
template <class Find>
void split_pieces(TextPieces& text, SplitBehavior behavior, const Find& find) {
  std::vector<TextPiece> pieces;
  std::vector<Section> sections;
  pieces.reserve(text.pieces.size());
  for (const TextPiece& piece : text.pieces) {
    find(text.of(piece), sections);
    add_pieces(sections, behavior, piece, pieces);
  }
  text.pieces = std::move(pieces);
}

template <class IsMatch>
void split_at_characters(TextPieces& text, SplitBehavior behavior, const IsMatch& is_match) {
  split_pieces(text, behavior, [&](std::string_view piece, std::vector<Section>& sections) {
    find_characters(piece, is_match, sections);
  });
}

class SplitStep : public PreTokenizerStep {
 public:
  explicit SplitStep(const JsonPart& part)
      : pattern_(part.at("pattern")),
        behavior_(read_behavior(part.at("behavior"))),
        invert_(part.at("invert").flag()) {}

  void apply(TextPieces& text) const override {
    split_pieces(text, behavior_, [&](std::string_view piece, std::vector<Section>& sections) {
      pattern_.find(piece, sections);
      if (!invert_) return;
      for (Section& section : sections) section.match = !section.match;
    });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Every byte becomes a character, so that a model of characters is one of bytes.
class ByteLevelSplit : public PreTokenizerStep {
 public:
  explicit ByteLevelSplit(const JsonPart& part) : add_space_(part.flag_or("add_prefix_space", true)) {
    // GPT-2's words: a space goes with what follows it, but for the last of several.
    constexpr const char* kWords = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    if (part.flag_or("use_regex", true)) words_.emplace(kWords, part.place());
  }

  void apply(TextPieces& text) const override {
    if (add_space_) {
      rewrite_pieces(text, [](std::string_view piece, bool, std::string& result) {
        if (!piece.starts_with(' ')) result += ' ';
        result += piece;
      });
    }
    if (words_) {
      split_pieces(text, SplitBehavior::kIsolated,
                   [&](std::string_view piece, std::vector<Section>& sections) { words_->find(piece, sections); });
    }
    rewrite_pieces(text, [](std::string_view piece, bool, std::string& result) {
      for (const char byte : piece) result += byte_character(static_cast<unsigned char>(byte));
    });
  }

 private:
  bool add_space_;
  std::optional<Regex> words_;
};

class MetaspaceSplit : public PreTokenizerStep {
 public:
  explicit MetaspaceSplit(const JsonPart& part) : metaspace_(part), split_(part.flag_or("split", true)) {}

  void apply(TextPieces& text) const override {
    rewrite_pieces(text, [&](std::string_view piece, bool at_start, std::string& result) {
      metaspace_.append_marked(piece, at_start, result);
    });
    if (!split_) return;
    split_at_characters(text, SplitBehavior::kMergedWithNext,
                        [&](uint32_t code_point) { return code_point == metaspace_.mark(); });
  }

 private:
  Metaspace metaspace_;
  bool split_;
};

class DigitsSplit : public PreTokenizerStep {
 public:
  explicit DigitsSplit(const JsonPart& part)
      : behavior_(part.flag_or("individual_digits", false) ? SplitBehavior::kIsolated : SplitBehavior::kContiguous) {}

  void apply(TextPieces& text) const override { split_at_characters(text, behavior_, is_numeric); }

 private:
  SplitBehavior behavior_;
};

class PunctuationSplit : public PreTokenizerStep {
 public:
  explicit PunctuationSplit(const JsonPart& part) {
    if (const auto behavior = part.find("behavior")) behavior_ = read_behavior(*behavior);
  }

  void apply(TextPieces& text) const override { split_at_characters(text, behavior_, is_punctuation); }

 private:
  SplitBehavior behavior_ = SplitBehavior::kIsolated;
};

class WhiteSpaceSplit : public PreTokenizerStep {
 public:
  void apply(TextPieces& text) const override { split_at_characters(text, SplitBehavior::kRemoved, is_white_space); }
};

// Words, and what is neither word nor white space.
class WordSplit : public PreTokenizerStep {
 public:
  void apply(TextPieces& text) const override {
    split_at_characters(text, SplitBehavior::kRemoved, is_white_space);
    split_at_characters(text, SplitBehavior::kContiguous, is_word_character);
  }
};

class BertSplit : public PreTokenizerStep {
 public:
  void apply(TextPieces& text) const override {
    split_at_characters(text, SplitBehavior::kRemoved, is_white_space);
    split_at_characters(text, SplitBehavior::kIsolated, is_punctuation);
  }
};

class DelimiterSplit : public PreTokenizerStep {
 public:
  explicit DelimiterSplit(const JsonPart& part) : delimiter_(part.at("delimiter").character()) {}

  void apply(TextPieces& text) const override {
    split_at_characters(text, SplitBehavior::kRemoved, [&](uint32_t code_point) { return code_point == delimiter_; });
  }

 private:
  uint32_t delimiter_;
};

std::unique_ptr<PreTokenizerStep> read_pre_tokenizer_step(const JsonPart& part) {
  const std::string& type = part.at("type").text();
  if (type == "ByteLevel") return std::make_unique<ByteLevelSplit>(part);
  if (type == "Split") return std::make_unique<SplitStep>(part);
  if (type == "Digits") return std::make_unique<DigitsSplit>(part);
  if (type == "Metaspace") return std::make_unique<MetaspaceSplit>(part);
  if (type == "Whitespace") return std::make_unique<WordSplit>();
  if (type == "WhitespaceSplit") return std::make_unique<WhiteSpaceSplit>();
  if (type == "Punctuation") return std::make_unique<PunctuationSplit>(part);
  if (type == "BertPreTokenizer") return std::make_unique<BertSplit>();
  if (type == "CharDelimiterSplit") return std::make_unique<DelimiterSplit>(part);
  part.fail("the pre-tokenizer " + in_quotes(type) +
            " is not known; known are ByteLevel, Split, Digits, Metaspace, Whitespace, WhitespaceSplit, Punctuation, "
            "BertPreTokenizer, CharDelimiterSplit and Sequence");
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonPart& part) {
  for (const JsonPart& step : part.steps("pretokenizers", kMostSplits)) steps_.push_back(read_pre_tokenizer_step(step));
}

void PreTokenizer::apply(TextPieces& text) const {
  const size_t most = kMostSplitGrowth * (text.text.size() + 1024);
  for (const auto& step : steps_) {
    step->apply(text);
    if (text.text.size() > most) throw DataError("the tokenizer's pre_tokenizer makes a text 64 times as long");
  }
}

}  // namespace switchyard
