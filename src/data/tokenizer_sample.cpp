#include "data/tokenizer_sample.h"

#include <algorithm>
#include <numeric>

namespace switchyard {
namespace {

// How many bytes of each domain: the smallest are served first, each with at most an equal part of what is left.
std::vector<size_t> share_out(std::span<const size_t> sizes, size_t budget) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sizes[a] < sizes[b]; });
  std::vector<size_t> shares(sizes.size());
  for (size_t i = 0; i < order.size(); ++i) {
    shares[order[i]] = std::min(sizes[order[i]], budget / (order.size() - i));
    budget -= shares[order[i]];
  }
  return shares;
}

// The front of `text`: at most `max_bytes`, up to a line end if there is one, else to the end of a character.
std::string_view next_piece(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  const size_t line_end = text.rfind('\n', max_bytes - 1);
  if (line_end != std::string_view::npos) return text.substr(0, line_end + 1);
  size_t end = max_bytes;
  for (int step = 0; step < 3 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80; ++step) --end;
  return text.substr(0, end);
}

void append_sample(std::span<const std::string_view> documents, size_t size, size_t share,
                   std::vector<std::string_view>& sample) {
  const size_t piece_bytes = std::clamp<size_t>(share / 64, 256, 16384);
  const double density = size == 0 ? 0.0 : static_cast<double>(share) / static_cast<double>(size);
  size_t seen = 0;
  size_t taken = 0;
  for (std::string_view document : documents) {
    while (!document.empty()) {
      const std::string_view piece = next_piece(document, piece_bytes);
      document.remove_prefix(piece.size());
      seen += piece.size();
      if (static_cast<double>(taken + piece.size()) > density * static_cast<double>(seen)) continue;
      taken += piece.size();
      sample.push_back(piece);
    }
  }
}

}  // namespace

size_t bytes_of(std::span<const std::string_view> documents) {
  size_t bytes = 0;
  for (const std::string_view document : documents) bytes += document.size();
  return bytes;
}

std::vector<std::string_view> tokenizer_sample(std::span<const std::vector<std::string_view>> domains,
                                               int64_t max_bytes) {
  std::vector<size_t> sizes;
  for (const std::vector<std::string_view>& documents : domains) sizes.push_back(bytes_of(documents));
  const std::vector<size_t> shares = share_out(sizes, static_cast<size_t>(std::max<int64_t>(max_bytes, 0)));
  std::vector<std::string_view> sample;
  for (size_t i = 0; i < domains.size(); ++i) append_sample(domains[i], sizes[i], shares[i], sample);
  return sample;
}

}  // namespace switchyard
