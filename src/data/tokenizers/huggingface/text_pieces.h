// A text on its way to a model, and the pieces that it is cut into. Private to data/.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace switchyard {

struct TextPiece {
  size_t begin = 0;
  size_t end = 0;
  bool at_start = false;  // begins where the whole text does
};

struct TextPieces {
  std::string text;
  std::vector<TextPiece> pieces;  // none is empty

  std::string_view of(const TextPiece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }
};

// A stretch of a text that a pattern matches, or that lies between two of its matches.
struct Section {
  size_t begin = 0;
  size_t end = 0;
  bool match = false;
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Adds what a piece that begins at `base` becomes when it is cut into `sections`, which begin at 0 and cover it:
// matches are left out, or stand alone, or go with what is before or after, or with each other. `sections` is changed.
void add_pieces(std::vector<Section>& sections, SplitBehavior behavior, const TextPiece& whole,
                std::vector<TextPiece>& pieces);

// Sections of the characters for which `is_match(code point)` holds, each by itself.
template <class IsMatch>
void find_characters(std::string_view text, const IsMatch& is_match, std::vector<Section>& sections) {
  sections.clear();
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = read_utf8(text, i);
    const size_t end = i + static_cast<size_t>(character.length);
    if (is_match(character.code_point)) {
      if (done < i) sections.push_back({done, i, false});
      sections.push_back({i, end, true});
      done = end;
    }
    i = end;
  }
  if (done < text.size()) sections.push_back({done, text.size(), false});
}

// Makes a new text of what write(piece, at_start, text) appends for each piece; one that becomes nothing goes.
template <class Write>
void rewrite_pieces(TextPieces& text, const Write& write) {
  TextPieces result;
  result.text.reserve(text.text.size() + text.text.size() / 4);
  result.pieces.reserve(text.pieces.size());
  for (const TextPiece& piece : text.pieces) {
    const size_t begin = result.text.size();
    write(text.of(piece), piece.at_start, result.text);
    if (result.text.size() > begin) result.pieces.push_back({begin, result.text.size(), piece.at_start});
  }
  text = std::move(result);
}

}  // namespace switchyard
