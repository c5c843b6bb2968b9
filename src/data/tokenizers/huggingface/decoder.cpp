#include "data/tokenizers/huggingface/decoder.h"

#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "base/text.h"
#include "base/utf8.h"
#include "data/tokenizers/huggingface/byte_characters.h"
#include "data/tokenizers/huggingface/metaspace.h"
#include "data/tokenizers/huggingface/pattern.h"

namespace switchyard {
namespace {

constexpr size_t kMostDecoderSteps = 64;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

std::string joined(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

class FuseDecoder : public DecoderStep {
 public:
  void apply(std::vector<std::string>& tokens) const override { tokens = {joined(tokens)}; }
};

class ByteLevelDecoder : public DecoderStep {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) token = bytes_of(token);
    tokens = {joined(tokens)};
  }

 private:
  // A token with any other character, such as an added one, is text already.
  static std::string bytes_of(const std::string& token) {
    std::string bytes;
    for (size_t i = 0; i < token.size();) {
      const Utf8Character character = read_utf8(token, i);
      const int byte = byte_of_character(character.code_point);
      if (byte < 0) return token;
      bytes += static_cast<char>(byte);
      i += static_cast<size_t>(character.length);
    }
    return bytes;
  }
};

// "<0x0A>" and its like in a row are the bytes of a text; where that isn't UTF-8, each is a replacement character.
class ByteFallbackDecoder : public DecoderStep {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> result;
    std::string bytes;
    for (std::string& token : tokens) {
      if (const auto byte = byte_of_token(token)) {
        bytes += *byte;
        continue;
      }
      add_bytes(bytes, result);
      result.push_back(std::move(token));
    }
    add_bytes(bytes, result);
    tokens = std::move(result);
  }

 private:
  static std::optional<char> byte_of_token(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
    int value = 0;
    const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
    if (error != std::errc() || end != token.data() + 5 || value < 0) return std::nullopt;
    return static_cast<char>(value);
  }

  static void add_bytes(std::string& bytes, std::vector<std::string>& result) {
    if (bytes.empty()) return;
    if (is_utf8(bytes)) {
      result.push_back(bytes);
    } else {
      result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
    }
    bytes.clear();
  }
};

class MetaspaceDecoder : public DecoderStep {
 public:
  explicit MetaspaceDecoder(const JsonPart& part) : metaspace_(part) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = metaspace_.unmarked(tokens[i], i == 0);
  }

 private:
  Metaspace metaspace_;
};

class ReplaceDecoder : public DecoderStep {
 public:
  explicit ReplaceDecoder(const JsonPart& part) : pattern_(part.at("pattern")), content_(part.at("content").text()) {}

  void apply(std::vector<std::string>& tokens) const override {
    std::vector<Section> sections;
    for (std::string& token : tokens) {
      pattern_.find(token, sections);
      std::string text;
      for (const Section& section : sections) {
        text += section.match ? content_ : token.substr(section.begin, section.end - section.begin);
      }
      token = std::move(text);
    }
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// Some of a character at the front and the end of every token.
class StripDecoder : public DecoderStep {
 public:
  explicit StripDecoder(const JsonPart& part)
      : start_(part.at("start").whole_number(0, INT32_MAX)), stop_(part.at("stop").whole_number(0, INT32_MAX)) {
    append_utf8(content_, part.at("content").character());
  }

  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      std::string_view text = token;
      for (int64_t i = 0; i < start_ && text.starts_with(content_); ++i) text.remove_prefix(content_.size());
      for (int64_t i = 0; i < stop_ && text.ends_with(content_); ++i) text.remove_suffix(content_.size());
      token = std::string(text);
    }
  }

 private:
  std::string content_;
  int64_t start_;
  int64_t stop_;
};

class WordPieceDecoder : public DecoderStep {
 public:
  explicit WordPieceDecoder(const JsonPart& part)
      : prefix_(part.text_or("prefix", "##")), cleanup_(part.flag_or("cleanup", true)) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i > 0) token = token.starts_with(prefix_) ? token.substr(prefix_.size()) : " " + token;
      if (cleanup_) clean_up(token);
    }
  }

 private:
  static void clean_up(std::string& text) {
    using Change = std::pair<std::string_view, std::string_view>;
    static constexpr std::array kChanges = {Change{" .", "."},     Change{" ?", "?"},           Change{" !", "!"},
                                            Change{" ,", ","},     Change{" ' ", "'"},          Change{" n't", "n't"},
                                            Change{" 'm", "'m"},   Change{" do not", " don't"}, Change{" 's", "'s"},
                                            Change{" 've", "'ve"}, Change{" 're", "'re"}};
    for (const auto& [from, to] : kChanges) replace_all(text, from, to);
  }

  std::string prefix_;
  bool cleanup_;
};

class SuffixDecoder : public DecoderStep {
 public:
  explicit SuffixDecoder(const JsonPart& part) : suffix_(part.text_or("suffix", "</w>")) {}

  void apply(std::vector<std::string>& tokens) const override {
    if (suffix_.empty()) return;
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }

 private:
  std::string suffix_;
};

std::unique_ptr<DecoderStep> read_decoder_step(const JsonPart& part) {
  const std::string& type = part.at("type").text();
  if (type == "ByteLevel") return std::make_unique<ByteLevelDecoder>();
  if (type == "ByteFallback") return std::make_unique<ByteFallbackDecoder>();
  if (type == "Fuse") return std::make_unique<FuseDecoder>();
  if (type == "Metaspace") return std::make_unique<MetaspaceDecoder>(part);
  if (type == "Replace") return std::make_unique<ReplaceDecoder>(part);
  if (type == "Strip") return std::make_unique<StripDecoder>(part);
  if (type == "WordPiece") return std::make_unique<WordPieceDecoder>(part);
  if (type == "BPEDecoder") return std::make_unique<SuffixDecoder>(part);
  part.fail("the decoder " + in_quotes(type) +
            " is not known; known are ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, WordPiece, BPEDecoder "
            "and Sequence");
}

}  // namespace

TokenDecoder::TokenDecoder(const JsonPart& part) : spaced_(false) {
  for (const JsonPart& step : part.steps("decoders", kMostDecoderSteps)) steps_.push_back(read_decoder_step(step));
}

std::string TokenDecoder::decode(std::vector<std::string> tokens) const {
  for (const auto& step : steps_) step->apply(tokens);
  if (!spaced_) return joined(tokens);
  std::string text;
  for (const std::string& token : tokens) text += (&token == &tokens.front() ? "" : " ") + token;
  return text;
}

}  // namespace switchyard
