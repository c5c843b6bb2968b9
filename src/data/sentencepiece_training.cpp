#include <sentencepiece_trainer.h>

#include <algorithm>

#include "base/errors.h"
#include "base/utf8.h"
#include "data/sentencepiece_text.h"
#include "data/sentencepiece_tokenizer.h"

namespace switchyard {
namespace {

constexpr size_t kMaxSentenceBytes = 4096;
constexpr int64_t kByteAndControlPieces = 258;  // 256 bytes, <unk>, </s>
constexpr int64_t kMaxVocabSize = 1 << 20;

class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(std::vector<std::string> sentences) : sentences_(std::move(sentences)) {}
  bool done() const override { return position_ == sentences_.size(); }
  void Next() override { ++position_; }
  const std::string& value() const override { return sentences_[position_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> sentences_;
  size_t position_ = 0;
};

// SentencePiece skips long sentences, so a longer stretch is cut between characters.
void append_sentences(std::string_view stretch, std::vector<std::string>& sentences) {
  while (!stretch.empty()) {
    size_t end = std::min(stretch.size(), kMaxSentenceBytes);
    while (end < stretch.size() && (static_cast<unsigned char>(stretch[end]) & 0xC0) == 0x80) --end;
    sentences.emplace_back(stretch.substr(0, end));
    stretch.remove_prefix(end);
  }
}

std::vector<std::string> sentences_of(std::span<const std::string_view> texts) {
  std::vector<std::string> sentences;
  for (const std::string_view text : texts) {
    for (size_t position = 0; position < text.size();) {
      const TextStretch stretch = next_stretch(text, position);
      if (stretch.plain) append_sentences(stretch.text, sentences);
      position += stretch.text.size();
    }
  }
  return sentences;
}

// The digits after the first `marker` of `message`, or "".
std::string number_after(const std::string& message, const std::string& marker) {
  const size_t found = message.find(marker);
  if (found == std::string::npos) return "";
  const size_t begin = found + marker.size();
  return message.substr(begin, message.find_first_not_of("0123456789", begin) - begin);
}

// The trainer's messages are about its own settings; the numbers in them say what would do.
std::string explain(const std::string& message) {
  if (const std::string most = number_after(message, "value <= "); !most.empty()) {
    return "the text gives at most " + most + "; take a smaller model.vocab_size or more text";
  }
  if (const std::string least = number_after(message, " vs "); !least.empty()) {
    return "its bytes and frequent characters alone take " + least + "; take a larger model.vocab_size";
  }
  return message;
}

}  // namespace

std::unique_ptr<Tokenizer> train_sentencepiece(std::span<const std::string_view> texts, int64_t vocab_size) {
  const std::string what = "cannot train a SentencePiece vocabulary of " + std::to_string(vocab_size) + ": ";
  if (vocab_size <= kByteAndControlPieces || vocab_size > kMaxVocabSize) {
    throw DataError(what + "it must lie between " + std::to_string(kByteAndControlPieces + 1) + " and " +
                    std::to_string(kMaxVocabSize));
  }
  std::vector<std::string> sentences = sentences_of(texts);
  if (sentences.empty()) throw DataError(what + "there is no text to train on");
  Sentences iterator(std::move(sentences));
  // No normalisation and no added or removed space: decoding gives back what was encoded.
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(vocab_size)},
      {"byte_fallback", "true"},
      {"character_coverage", "0.9995"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"max_sentence_length", std::to_string(kMaxSentenceBytes)},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      {"num_threads", "1"},
      {"minloglevel", "3"},
  };
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &iterator, &model);
  if (!status.ok()) throw DataError(what + explain(status.ToString()));
  return make_sentencepiece_tokenizer(std::move(model), "the trained model");
}

}  // namespace switchyard
