#include "data/tokenizers/huggingface/huggingface_tokenizer.h"

#include <algorithm>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/guard.h"
#include "data/tokenizers/huggingface/added_tokens.h"
#include "data/tokenizers/huggingface/decoder.h"
#include "data/tokenizers/huggingface/model.h"
#include "data/tokenizers/huggingface/normalizer.h"
#include "data/tokenizers/huggingface/post_processor.h"
#include "data/tokenizers/huggingface/pre_tokenizer.h"

namespace switchyard {
namespace {

constexpr uint64_t kLargestTokenizerFile = uint64_t{1} << 28;

// `text` with a replacement character for every byte that is not UTF-8.
std::string as_utf8(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = read_utf8(text, i);
    append_utf8(result, character.code_point);
    i += static_cast<size_t>(character.length);
  }
  return result;
}

template <class Part>
Part read_part(const JsonPart& root, const char* key) {
  const auto part = root.find(key);
  return part ? Part(*part) : Part();
}

class HuggingFaceTokenizer : public Tokenizer {
 public:
  HuggingFaceTokenizer(const JsonPart& root, std::string file, const std::vector<TokenOrId>& end_of_text)
      : file_(std::move(file)),
        normalizer_(read_part<Normalizer>(root, "normalizer")),
        pre_tokenizer_(read_part<PreTokenizer>(root, "pre_tokenizer")),
        decoder_(read_part<TokenDecoder>(root, "decoder")),
        model_(read_token_model(root.at("model"))),
        added_(items_of(root, "added_tokens"), model_->vocabulary(), normalizer_) {
    fill_texts();
    find_end_of_text(end_of_text, root);
    if (const auto part = root.find("post_processor")) around_ = read_surrounding_ids(*part, vocab_size());
    if (!around_.after.empty() && around_.after.back() == end_of_text_) around_.after.pop_back();  // others add it
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(texts_.size()); }
  int32_t end_of_text() const override { return end_of_text_; }

  std::vector<int32_t> encode(std::string_view text) const override {
    if (!is_utf8(text)) return encode(as_utf8(text));
    std::vector<int32_t> ids = around_.before;
    ids.reserve(text.size() / 3);
    for (const AddedStretch& stretch : added_.find_plain(text)) {
      if (stretch.id != Vocabulary::kNone) {
        ids.push_back(stretch.id);
      } else {
        append_normalized(text.substr(stretch.begin, stretch.end - stretch.begin), stretch.begin == 0, ids);
      }
    }
    ids.insert(ids.end(), around_.after.begin(), around_.after.end());
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::vector<std::string> tokens;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) {
        throw DataError("token " + std::to_string(id) + " lies outside the vocabulary of " +
                        std::to_string(vocab_size()));
      }
      const std::string& text = texts_[static_cast<size_t>(id)];
      if (id != end_of_text_ && !text.empty() && !added_.is_special(text)) tokens.push_back(text);
    }
    return decoder_.decode(std::move(tokens));
  }

  std::string serialize() const override {
    const std::string* added = added_.content_of(end_of_text_);
    const std::string& token = added != nullptr ? *added : texts_[static_cast<size_t>(end_of_text_)];
    return Json{{"type", "huggingface"}, {"end_of_text", token}, {"file", file_}}.dump();
  }

 private:
  static std::vector<JsonPart> items_of(const JsonPart& root, const char* key) {
    const auto part = root.find(key);
    return part ? part->items() : std::vector<JsonPart>();
  }

  void fill_texts() {
    texts_ = model_->vocabulary().tokens();
    for (const auto& [id, text] : added_.texts()) {
      texts_.resize(std::max(texts_.size(), static_cast<size_t>(id) + 1));
      texts_[static_cast<size_t>(id)] = text;
    }
  }

  void find_end_of_text(const std::vector<TokenOrId>& choices, const JsonPart& root) {
    std::string names;
    for (const TokenOrId& choice : choices) {
      const auto* token = std::get_if<std::string>(&choice);
      end_of_text_ = token != nullptr ? id_of(*token) : existing_id(std::get<int64_t>(choice));
      if (end_of_text_ != Vocabulary::kNone) return;
      if (token != nullptr) names += (names.empty() ? "" : ", ") + *token;
    }
    root.fail("has no token that ends a text (" + shortened(names, 200) +
              "); a tokenizer_config.json beside it may name one as its eos_token");
  }

  int32_t id_of(const std::string& token) const {
    const int32_t id = added_.id_of(token);
    return id != Vocabulary::kNone ? id : model_->vocabulary().find(token);
  }

  int32_t existing_id(int64_t id) const {
    const bool exists = id >= 0 && id < vocab_size() && !texts_[static_cast<size_t>(id)].empty();
    return exists ? static_cast<int32_t>(id) : Vocabulary::kNone;
  }

  void append_normalized(std::string_view part, bool at_start, std::vector<int32_t>& ids) const {
    std::string text(part);
    normalizer_.apply(text, at_start);
    for (const AddedStretch& stretch : added_.find_normalized(text)) {
      if (stretch.id != Vocabulary::kNone) {
        ids.push_back(stretch.id);
        continue;
      }
      const size_t size = stretch.end - stretch.begin;
      append_pieces({.text = text.substr(stretch.begin, size), .pieces = {{0, size, at_start && stretch.begin == 0}}},
                    ids);
    }
  }

  void append_pieces(TextPieces text, std::vector<int32_t>& ids) const {
    pre_tokenizer_.apply(text);
    for (const TextPiece& piece : text.pieces) model_->append(text.of(piece), ids);
  }

  std::string file_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  TokenDecoder decoder_;
  std::unique_ptr<TokenModel> model_;
  AddedTokens added_;
  std::vector<std::string> texts_;  // by id, as the decoder sees them
  SurroundingIds around_;
  int32_t end_of_text_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> make_huggingface_tokenizer(std::string file, const std::vector<TokenOrId>& end_of_text,
                                                      const std::string& where) {
  const Json json = with_data_errors([&] { return parse_json(file, where); });
  const JsonPart root(json, where + ":");
  if (const auto version = root.find("version"); version && version->text() != "1.0") {
    version->fail("is " + in_quotes(version->text()) + ", it must be 1.0");
  }
  return std::make_unique<HuggingFaceTokenizer>(root, std::move(file), end_of_text);
}

std::unique_ptr<Tokenizer> load_huggingface(const std::filesystem::path& file) {
  std::string text = with_data_errors([&] { return read_file(file, kLargestTokenizerFile); });
  return make_huggingface_tokenizer(std::move(text), end_of_text_choices(file), file.string());
}

}  // namespace switchyard
