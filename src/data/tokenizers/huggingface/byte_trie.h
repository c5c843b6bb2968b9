// Words by their bytes, to find those that a text begins with. Private to data/.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace switchyard {

class ByteTrie {
 public:
  static constexpr int32_t kNone = -1;

  // Adds a word, which is not empty, or gives it another value. Time and memory grow with its length.
  void insert(std::string_view word, int32_t value);

  // Calls found(length, value) for every word that `text` begins with, shortest first.
  template <class Found>
  void find_prefixes(std::string_view text, const Found& found) const {
    if (text.empty()) return;
    int32_t node = first_[static_cast<unsigned char>(text[0])];
    for (size_t length = 1; node != kNone; ++length) {
      const Node& here = nodes_[static_cast<size_t>(node)];
      if (here.value != kNone) found(length, here.value);
      if (length == text.size()) return;
      node = child(here.child, static_cast<unsigned char>(text[length]));
    }
  }

 private:
  struct Node {
    int32_t child = kNone;    // the first of them
    int32_t sibling = kNone;  // the next one
    int32_t value = kNone;
    unsigned char byte = 0;
  };

  int32_t child(int32_t node, unsigned char byte) const {
    while (node != kNone && nodes_[static_cast<size_t>(node)].byte != byte) {
      node = nodes_[static_cast<size_t>(node)].sibling;
    }
    return node;
  }
  int32_t add_node(unsigned char byte, int32_t sibling);

  std::array<int32_t, 256> first_ = none();  // of each first byte
  std::vector<Node> nodes_;

  static constexpr std::array<int32_t, 256> none() {
    std::array<int32_t, 256> all{};
    all.fill(kNone);
    return all;
  }
};

}  // namespace switchyard
