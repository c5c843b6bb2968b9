#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/base64.h"
#include "data/guard.h"
#include "data/piece_cache.h"
#include "data/sentencepiece_model.h"
#include "data/sentencepiece_text.h"

namespace switchyard {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581
constexpr uint64_t kMaxModelBytes = uint64_t{1} << 28;

std::string with_spaces(std::string_view piece) {
  std::string text;
  for (size_t i = 0; i < piece.size();) {
    const bool space = piece.substr(i).starts_with(kSpaceSymbol);
    text += space ? ' ' : piece[i];
    i += space ? kSpaceSymbol.size() : 1;
  }
  return text;
}

// Whether a space follows something else inside a piece. Where no piece has that, no merge crosses such a place, and
// a text may be cut there without changing its ids.
bool has_inner_space(std::string_view text) {
  const size_t word = text.find_first_not_of(' ');
  return word != std::string_view::npos && text.find(' ', word) != std::string_view::npos;
}

// Spaces and the word after them, from the front of `text`.
std::string_view next_chunk(std::string_view text) {
  const size_t word = text.find_first_not_of(' ');
  return text.substr(0, word == std::string_view::npos ? word : text.find(' ', word));
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string model, const std::string& where) : model_(std::move(model)) {
    const SentencePieceTraits traits = inspect_sentencepiece_model(model_, where);
    load(where);
    read_pieces(traits.keeps_text);
    end_of_text_ = find_end_of_text(where);
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(texts_.size()); }
  int32_t end_of_text() const override { return end_of_text_; }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    if (!exact_) {
      append_encoded(text, ids);
      return ids;
    }
    ids.reserve(text.size() / 3);
    for (size_t position = 0; position < text.size();) {
      const TextStretch stretch = next_stretch(text, position);
      stretch.plain ? append_plain(stretch.text, ids) : append_bytes(stretch.text, ids);
      position += stretch.text.size();
    }
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) {
        throw DataError("token " + std::to_string(id) + " lies outside the SentencePiece vocabulary of " +
                        std::to_string(vocab_size()));
      }
    }
    return exact_ ? decode_exactly(ids) : decode_with_library(ids);
  }

  std::string serialize() const override {
    return Json{{"type", "sentencepiece"}, {"model", encode_base64(model_)}}.dump();
  }

 private:
  void load(const std::string& where) {
    try {
      const auto status = processor_.LoadFromSerializedProto(model_);
      if (!status.ok()) throw DataError(where + " is not a SentencePiece model: " + status.ToString());
    } catch (const DataError&) {
      throw;
    } catch (const std::exception& error) {  // the double array's builder throws its own
      throw DataError(where + " is not a SentencePiece model: " + error.what());
    }
    if (processor_.GetPieceSize() < 1) throw DataError(where + " is not a SentencePiece model: it has no pieces");
  }

  void read_pieces(bool keeps_text) {
    byte_ids_.fill(-1);
    exact_ = keeps_text;
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      const std::string& piece = processor_.IdToPiece(id);
      std::string text = with_spaces(piece);
      if (processor_.IsControl(id)) {
        text.clear();
      } else if (processor_.IsByte(id)) {
        const int byte = std::stoi(piece.substr(3, 2), nullptr, 16);  // "<0x0A>"; loading has checked the spelling
        byte_ids_[static_cast<size_t>(byte)] = id;
        text.assign(1, static_cast<char>(byte));
      } else if (processor_.IsUnknown(id)) {
        text.clear();
        append_utf8(text, kReplacementCharacter);
      } else if (has_inner_space(text)) {
        exact_ = false;
      }
      texts_.push_back(std::move(text));
    }
    exact_ = exact_ && std::find(byte_ids_.begin(), byte_ids_.end(), -1) == byte_ids_.end();
  }

  int32_t find_end_of_text(const std::string& where) const {
    if (processor_.eos_id() >= 0) return processor_.eos_id();
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      if (processor_.IsControl(id)) return id;
    }
    throw DataError(where + " has no control piece (such as </s>) that could end a text");
  }

  void append_encoded(std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<int> encoded;
    const auto status = processor_.Encode(text, &encoded);
    if (!status.ok()) throw DataError("SentencePiece cannot encode a text: " + status.ToString());
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  }

  void append_plain(std::string_view text, std::vector<int32_t>& ids) const {
    while (!text.empty()) {
      const std::string_view chunk = next_chunk(text);
      text.remove_prefix(chunk.size());
      if (cache_.append(chunk, ids)) continue;
      std::vector<int32_t> encoded;
      append_encoded(chunk, encoded);
      ids.insert(ids.end(), encoded.begin(), encoded.end());
      cache_.remember(chunk, std::move(encoded));
    }
  }

  void append_bytes(std::string_view text, std::vector<int32_t>& ids) const {
    for (const char byte : text) ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  }

  std::string decode_exactly(std::span<const int32_t> ids) const {
    std::string text;
    for (const int32_t id : ids) text += texts_[static_cast<size_t>(id)];
    return text;
  }

  std::string decode_with_library(std::span<const int32_t> ids) const {
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
    if (!status.ok()) throw DataError("SentencePiece cannot decode tokens: " + status.ToString());
    return text;
  }

  std::string model_;
  sentencepiece::SentencePieceProcessor processor_;
  std::vector<std::string> texts_;       // of every piece
  std::array<int32_t, 256> byte_ids_{};  // the piece of every byte, -1 where there is none
  bool exact_ = false;                   // decode(encode(text)) == text: ours to cut, cache and join
  int32_t end_of_text_ = 0;
  mutable PieceCache cache_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string model, const std::string& where) {
  if (model.size() > kMaxModelBytes) {
    throw DataError(where + " has " + std::to_string(model.size()) + " bytes, more than a SentencePiece model may");
  }
  return std::make_unique<SentencePieceTokenizer>(std::move(model), where);
}

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& model) {
  std::string bytes = with_data_errors([&] { return read_file(model, kMaxModelBytes); });
  return make_sentencepiece_tokenizer(std::move(bytes), model.string());
}

}  // namespace switchyard
