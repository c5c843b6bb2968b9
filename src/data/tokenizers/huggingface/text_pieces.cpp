#include "data/tokenizers/huggingface/text_pieces.h"

#include <algorithm>

namespace switchyard {
namespace {

// Joins a match with the section before it, unless that is a match, too.
void join_with_previous(std::vector<Section>& sections) {
  std::vector<Section> joined;
  bool after_match = false;
  for (const Section& section : sections) {
    if (section.match && !after_match && !joined.empty()) {
      joined.back().end = section.end;
    } else {
      joined.push_back(section);
    }
    after_match = section.match;
  }
  sections = std::move(joined);
}

void join_with_next(std::vector<Section>& sections) {
  std::vector<Section> joined;
  bool before_match = false;
  for (auto section = sections.rbegin(); section != sections.rend(); ++section) {
    if (section->match && !before_match && !joined.empty()) {
      joined.back().begin = section->begin;
    } else {
      joined.push_back(*section);
    }
    before_match = section->match;
  }
  std::reverse(joined.begin(), joined.end());
  sections = std::move(joined);
}

// Joins what is of one kind and adjacent.
void join_alike(std::vector<Section>& sections) {
  std::vector<Section> joined;
  for (const Section& section : sections) {
    if (!joined.empty() && joined.back().match == section.match) {
      joined.back().end = section.end;
    } else {
      joined.push_back(section);
    }
  }
  sections = std::move(joined);
}

}  // namespace

void add_pieces(std::vector<Section>& sections, SplitBehavior behavior, const TextPiece& whole,
                std::vector<TextPiece>& pieces) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      std::erase_if(sections, [](const Section& section) { return section.match; });
      break;
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kMergedWithPrevious:
      join_with_previous(sections);
      break;
    case SplitBehavior::kMergedWithNext:
      join_with_next(sections);
      break;
    case SplitBehavior::kContiguous:
      join_alike(sections);
      break;
  }
  for (const Section& section : sections) {
    if (section.begin == section.end) continue;
    pieces.push_back({whole.begin + section.begin, whole.begin + section.end, whole.at_start && section.begin == 0});
  }
}

}  // namespace switchyard
