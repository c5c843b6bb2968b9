// Positions in a YAML text.
#pragma once

#include <yaml-cpp/mark.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "config/problems.h"

namespace switchyard {

// From yaml-cpp's marks (line and byte column from zero) to places (both from one, columns in characters).
class PlaceFinder {
 public:
  PlaceFinder(std::string_view text, std::shared_ptr<const SourceText> source)
      : text_(text), source_(std::move(source)) {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') {
        line_starts_.push_back(i + 1);
      }
    }
  }

  // The byte in the text that the mark points at.
  size_t offset(const YAML::Mark& mark) const {
    const auto line = std::min(static_cast<size_t>(std::max(mark.line, 0)), line_starts_.size() - 1);
    return std::min(line_starts_[line] + static_cast<size_t>(std::max(mark.column, 0)), text_.size());
  }

  Place place(const YAML::Mark& mark) {
    if (source_->is_override) {
      return {source_};
    }
    const size_t target = offset(mark);
    const auto next_line = std::upper_bound(line_starts_.begin(), line_starts_.end(), target);
    const size_t line_start = *(next_line - 1);
    // Marks come almost in order: counting goes on from the last one, or a long line would cost its square.
    if (last_offset_ < line_start || (next_line != line_starts_.end() && last_offset_ >= *next_line)) {
      last_offset_ = line_start;
      last_column_ = 1;
    }
    while (last_offset_ > target) last_column_ -= begins_character(--last_offset_);
    while (last_offset_ < target) last_column_ += begins_character(last_offset_++);
    return {source_, static_cast<int>(next_line - line_starts_.begin()), last_column_};
  }

 private:
  int begins_character(size_t offset) const {
    return (static_cast<unsigned char>(text_[offset]) & 0xc0) != 0x80 ? 1 : 0;
  }

  std::string_view text_;
  std::shared_ptr<const SourceText> source_;
  std::vector<size_t> line_starts_ = {0};
  size_t last_offset_ = 0;
  int last_column_ = 1;
};

}  // namespace switchyard
