#include <algorithm>
#include <optional>
#include <utility>

#include "base/errors.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/piece_cache.h"
#include "data/tokenizers/huggingface/model.h"
#include "data/tokenizers/huggingface/pair_merges.h"

namespace switchyard {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// Where the first word of `text` begins, behind its marks.
size_t skip_marks(std::string_view text) {
  size_t at = 0;
  while (text.substr(at).starts_with(kSpaceMark)) at += kSpaceMark.size();
  return at;
}

struct BpeSettings {
  std::optional<std::string> unknown;  // the token for a character that the vocabulary lacks; else it gets no id
  bool fuse_unknown = false;           // one for all of a row
  bool byte_fallback = false;          // such a character becomes its bytes, where all of them are there
  bool ignore_merges = false;          // a piece that is a token is that, whatever the merges would make
  std::string prefix;                  // of every character but a piece's first
  std::string suffix;                  // of a piece's last character
};

class BpeModel : public TokenModel {
 public:
  BpeModel(BpeSettings settings, Vocabulary vocabulary, PairMerges merges)
      : settings_(std::move(settings)),
        vocabulary_(std::move(vocabulary)),
        merges_(std::move(merges)),
        byte_ids_(byte_token_ids(vocabulary_)),
        unknown_id_(settings_.unknown ? vocabulary_.find(*settings_.unknown) : Vocabulary::kNone),
        splits_words_(can_split_words()) {}

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void append(std::string_view piece, std::vector<int32_t>& ids) const override {
    if (!splits_words_) return append_word(piece, ids);
    while (!piece.empty()) {
      const size_t word = skip_marks(piece);
      const std::string_view chunk = piece.substr(0, word == piece.size() ? word : piece.find(kSpaceMark, word));
      append_word(chunk, ids);
      piece.remove_prefix(chunk.size());
    }
  }

 private:
  void append_word(std::string_view piece, std::vector<int32_t>& ids) const {
    if (cache_.append(piece, ids)) return;
    std::vector<int32_t> found;
    const int32_t whole = settings_.ignore_merges ? vocabulary_.find(piece) : Vocabulary::kNone;
    if (whole != Vocabulary::kNone) {
      found.push_back(whole);
    } else {
      append_characters(piece, found);
      merge_pairs(merges_, found);
    }
    ids.insert(ids.end(), found.begin(), found.end());
    cache_.remember(piece, std::move(found));
  }

  // Whether a piece of several words gets the ids of its words: no token has a mark after anything else, so that no
  // merge reaches over there. A piece is a whole text where no pre-tokenizer cuts it, as in Mixtral's files.
  bool can_split_words() const {
    if (settings_.ignore_merges || !settings_.prefix.empty() || !settings_.suffix.empty()) return false;
    const auto is_one_word = [](const std::string& token) {
      return token.find(kSpaceMark, skip_marks(token)) == std::string::npos;
    };
    const std::vector<std::string>& tokens = vocabulary_.tokens();
    return vocabulary_.find(kSpaceMark) != Vocabulary::kNone && std::all_of(tokens.begin(), tokens.end(), is_one_word);
  }

  // An unknown character waits until it is known whether the next one joins it: in the package that this follows, even
  // behind the bytes of one that falls back to them.
  void append_characters(std::string_view piece, std::vector<int32_t>& ids) const {
    bool waiting = false;
    const auto add_waiting = [&] {
      if (std::exchange(waiting, false)) ids.push_back(unknown_id_);
    };
    std::string spelled;
    for (size_t i = 0; i < piece.size();) {
      const auto length = static_cast<size_t>(read_utf8(piece, i).length);
      const std::string_view character = as_token(piece, i, length, spelled);
      i += length;
      const int32_t id = vocabulary_.find(character);
      if (id != Vocabulary::kNone) {
        add_waiting();
        ids.push_back(id);
      } else if (!append_bytes(character, ids) && settings_.unknown) {
        if (unknown_id_ == Vocabulary::kNone) {
          throw DataError("a text has the character " + in_quotes(character) +
                          ", which the tokenizer lacks, and so it does its unk_token " + in_quotes(*settings_.unknown));
        }
        if (!settings_.fuse_unknown) add_waiting();
        waiting = true;
      }
    }
    add_waiting();
  }

  // A character of a piece as it stands in the vocabulary; `spelled` is where that is put together.
  std::string_view as_token(std::string_view piece, size_t begin, size_t length, std::string& spelled) const {
    const bool has_prefix = begin > 0 && !settings_.prefix.empty();
    const bool has_suffix = begin + length == piece.size() && !settings_.suffix.empty();
    if (!has_prefix && !has_suffix) return piece.substr(begin, length);
    spelled = has_prefix ? settings_.prefix : "";
    spelled += piece.substr(begin, length);
    if (has_suffix) spelled += settings_.suffix;
    return spelled;
  }

  // A token for each byte, if every one is there. Returns whether.
  bool append_bytes(std::string_view bytes, std::vector<int32_t>& ids) const {
    return settings_.byte_fallback && append_byte_tokens(byte_ids_, bytes, ids);
  }

  BpeSettings settings_;
  Vocabulary vocabulary_;
  PairMerges merges_;
  std::vector<int32_t> byte_ids_;
  int32_t unknown_id_;
  bool splits_words_;
  mutable PieceCache cache_;
};

using TokenPair = std::pair<std::string, std::string>;

// "left right", as old files have it, or ["left", "right"].
TokenPair read_pair(const JsonPart& part) {
  if (part.json().is_string()) {
    const std::string& text = part.text();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      part.fail("must be two tokens with a space between them, it is " + in_quotes(text));
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  const std::vector<JsonPart> items = part.items();
  if (items.size() != 2) part.fail("must be two tokens, it has " + std::to_string(items.size()));
  return {items[0].text(), items[1].text()};
}

PairMerges read_merges(const JsonPart& part, const Vocabulary& vocabulary, const std::string& prefix) {
  const std::vector<JsonPart> items = part.items();
  PairMerges merges(items.size());
  int32_t rank = 0;
  for (const JsonPart& item : items) {
    if (item.json().is_string() && item.text().starts_with("#version")) continue;
    const auto [left, right] = read_pair(item);
    const auto id_of = [&](const std::string& token) {
      const int32_t id = vocabulary.find(token);
      if (id == Vocabulary::kNone) item.fail("the token " + in_quotes(token) + " is not in the vocabulary");
      return id;
    };
    const int32_t left_id = id_of(left);
    const int32_t right_id = id_of(right);
    if (right.size() < prefix.size()) item.fail(in_quotes(right) + " is shorter than continuing_subword_prefix");
    merges.set(left_id, right_id, {.rank = rank++, .id = id_of(left + right.substr(prefix.size()))});
  }
  return merges;
}

}  // namespace

std::unique_ptr<TokenModel> read_bpe(const JsonPart& part) {
  BpeSettings settings;
  if (const auto unknown = part.find("unk_token")) settings.unknown = unknown->text();
  if (const auto dropout = part.find("dropout"); dropout && dropout->number() != 0) {
    dropout->fail("merges that are left out at random are not known here; it must be null");
  }
  settings.fuse_unknown = part.flag_or("fuse_unk", false);
  settings.byte_fallback = part.flag_or("byte_fallback", false);
  settings.ignore_merges = part.flag_or("ignore_merges", false);
  settings.prefix = part.text_or("continuing_subword_prefix", "");
  settings.suffix = part.text_or("end_of_word_suffix", "");
  Vocabulary vocabulary = Vocabulary::read(part.at("vocab"));
  PairMerges merges = read_merges(part.at("merges"), vocabulary, settings.prefix);
  return std::make_unique<BpeModel>(std::move(settings), std::move(vocabulary), std::move(merges));
}

}  // namespace switchyard
