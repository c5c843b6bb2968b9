#include "data/tokenizers/huggingface/normalizer.h"

#include "base/errors.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/tokenizers/huggingface/byte_characters.h"
#include "data/tokenizers/huggingface/characters.h"
#include "data/tokenizers/huggingface/pattern.h"
#include "data/tokenizers/huggingface/unicode_forms.h"

namespace switchyard {
namespace {

constexpr size_t kMostSteps = 64;
constexpr size_t kLongestInsertion = 256;  // bytes that a step puts in for one place
constexpr size_t kMostGrowth = 64;         // of a text by all steps

class FormStep : public NormalizerStep {
 public:
  explicit FormStep(UnicodeForm form) : form_(form) {}
  void apply(std::string& text, bool& /*at_start*/) const override { normalize_unicode(text, form_); }

 private:
  UnicodeForm form_;
};

class LowercaseStep : public NormalizerStep {
 public:
  void apply(std::string& text, bool& /*at_start*/) const override { lower_case(text); }
};

// Calls change(code point, result), which appends what becomes of each character.
template <class Change>
void change_characters(std::string& text, bool& at_start, const Change& change) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = read_utf8(text, i);
    change(character.code_point, result);
    if (i == 0 && result.empty()) at_start = false;
    i += static_cast<size_t>(character.length);
  }
  text = std::move(result);
}

class StripAccentsStep : public NormalizerStep {
 public:
  void apply(std::string& text, bool& at_start) const override {
    change_characters(text, at_start, [](uint32_t code_point, std::string& result) {
      if (!is_mark(code_point)) append_utf8(result, code_point);
    });
  }
};

// SentencePiece's first rules for machine translation: controls go, some characters are spaces.
class NmtStep : public NormalizerStep {
 public:
  void apply(std::string& text, bool& at_start) const override {
    change_characters(text, at_start, [](uint32_t c, std::string& result) {
      const bool control =
          (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
      const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      if (!control) append_utf8(result, space ? ' ' : c);
    });
  }
};

class ByteLevelStep : public NormalizerStep {
 public:
  void apply(std::string& text, bool& /*at_start*/) const override {
    std::string result;
    for (const char byte : text) result += byte_character(static_cast<unsigned char>(byte));
    text = std::move(result);
  }
};

class BertStep : public NormalizerStep {
 public:
  explicit BertStep(const JsonPart& part)
      : clean_(part.flag_or("clean_text", true)),
        separate_chinese_(part.flag_or("handle_chinese_chars", true)),
        lowercase_(part.flag_or("lowercase", true)),
        strip_accents_(part.flag_or("strip_accents", lowercase_)) {}

  void apply(std::string& text, bool& at_start) const override {
    if (clean_) change_characters(text, at_start, clean);
    if (separate_chinese_) change_characters(text, at_start, separate);
    if (strip_accents_) {
      normalize_unicode(text, {});
      change_characters(text, at_start, [](uint32_t code_point, std::string& result) {
        if (!is_nonspacing_mark(code_point)) append_utf8(result, code_point);
      });
    }
    if (lowercase_) lower_case(text);
  }

 private:
  static void clean(uint32_t code_point, std::string& result) {
    const bool space = is_white_space(code_point);
    const bool removed = code_point == 0 || code_point == kReplacementCharacter ||
                         (is_other(code_point) && code_point != '\t' && code_point != '\n' && code_point != '\r');
    if (!removed) append_utf8(result, space ? ' ' : code_point);
  }

  static void separate(uint32_t code_point, std::string& result) {
    const char* around = is_chinese(code_point) ? " " : "";
    result += around;
    append_utf8(result, code_point);
    result += around;
  }

  bool clean_;
  bool separate_chinese_;
  bool lowercase_;
  bool strip_accents_;
};

class StripStep : public NormalizerStep {
 public:
  explicit StripStep(const JsonPart& part)
      : left_(part.at("strip_left").flag()), right_(part.at("strip_right").flag()) {}

  void apply(std::string& text, bool& at_start) const override {
    size_t begin = text.size();  // of what is kept, and its end: both at the end where all is white space
    size_t end = 0;
    for (size_t i = 0; i < text.size();) {
      const Utf8Character character = read_utf8(text, i);
      const size_t next = i + static_cast<size_t>(character.length);
      if (!is_white_space(character.code_point)) {
        begin = std::min(begin, i);
        end = next;
      }
      i = next;
    }
    if (!left_) begin = 0;
    if (!right_) end = text.size();
    at_start = at_start && begin == 0;
    text = begin < end ? text.substr(begin, end - begin) : "";
  }

 private:
  bool left_;
  bool right_;
};

std::string short_text(const JsonPart& part) {
  if (part.text().size() > kLongestInsertion) {
    part.fail("has " + std::to_string(part.text().size()) + " bytes, at most " + std::to_string(kLongestInsertion) +
              " are read");
  }
  return part.text();
}

class PrependStep : public NormalizerStep {
 public:
  explicit PrependStep(const JsonPart& part) : front_(short_text(part.at("prepend"))) {}

  void apply(std::string& text, bool& /*at_start*/) const override {
    if (!text.empty()) text.insert(0, front_);
  }

 private:
  std::string front_;
};

class ReplaceStep : public NormalizerStep {
 public:
  explicit ReplaceStep(const JsonPart& part) : pattern_(part.at("pattern")), content_(short_text(part.at("content"))) {}

  void apply(std::string& text, bool& at_start) const override {
    std::vector<Section> sections;
    pattern_.find(text, sections);
    std::string result;
    for (const Section& section : sections) {
      const std::string_view found = std::string_view(text).substr(section.begin, section.end - section.begin);
      result += section.match ? std::string_view(content_) : found;
      const bool one = !found.empty() && static_cast<size_t>(read_utf8(found, 0).length) == found.size();
      if (section.match && section.begin == 0 && (!one || content_.empty())) at_start = false;
    }
    text = std::move(result);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

std::unique_ptr<NormalizerStep> read_normalizer_step(const JsonPart& part) {
  const std::string& type = part.at("type").text();
  if (type == "NFC") return std::make_unique<FormStep>(UnicodeForm{.composed = true});
  if (type == "NFD") return std::make_unique<FormStep>(UnicodeForm{});
  if (type == "NFKC") return std::make_unique<FormStep>(UnicodeForm{.compatible = true, .composed = true});
  if (type == "NFKD") return std::make_unique<FormStep>(UnicodeForm{.compatible = true});
  if (type == "Lowercase") return std::make_unique<LowercaseStep>();
  if (type == "Strip") return std::make_unique<StripStep>(part);
  if (type == "StripAccents") return std::make_unique<StripAccentsStep>();
  if (type == "Replace") return std::make_unique<ReplaceStep>(part);
  if (type == "Prepend") return std::make_unique<PrependStep>(part);
  if (type == "Nmt") return std::make_unique<NmtStep>();
  if (type == "BertNormalizer") return std::make_unique<BertStep>(part);
  if (type == "ByteLevel") return std::make_unique<ByteLevelStep>();
  part.fail("the normalizer " + in_quotes(type) +
            " is not known; known are NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, Nmt, "
            "BertNormalizer, ByteLevel and Sequence");
}

}  // namespace

Normalizer::Normalizer(const JsonPart& part) {
  for (const JsonPart& step : part.steps("normalizers", kMostSteps)) steps_.push_back(read_normalizer_step(step));
}

void Normalizer::apply(std::string& text, bool& at_start) const {
  const size_t most = kMostGrowth * (text.size() + 1024);
  for (const auto& step : steps_) {
    step->apply(text, at_start);
    if (text.size() > most) throw DataError("the tokenizer's normalizer makes a text 64 times as long");
  }
}

}  // namespace switchyard
