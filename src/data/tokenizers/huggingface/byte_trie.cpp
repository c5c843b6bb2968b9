#include "data/tokenizers/huggingface/byte_trie.h"

namespace switchyard {

int32_t ByteTrie::add_node(unsigned char byte, int32_t sibling) {
  nodes_.push_back({.child = kNone, .sibling = sibling, .value = kNone, .byte = byte});
  return static_cast<int32_t>(nodes_.size()) - 1;
}

void ByteTrie::insert(std::string_view word, int32_t value) {
  int32_t& first = first_[static_cast<unsigned char>(word[0])];
  if (first == kNone) first = add_node(static_cast<unsigned char>(word[0]), kNone);
  int32_t node = first;
  for (const char c : word.substr(1)) {
    const auto byte = static_cast<unsigned char>(c);
    int32_t next = child(nodes_[static_cast<size_t>(node)].child, byte);
    if (next == kNone) {
      next = add_node(byte, nodes_[static_cast<size_t>(node)].child);
      nodes_[static_cast<size_t>(node)].child = next;
    }
    node = next;
  }
  nodes_[static_cast<size_t>(node)].value = value;
}

}  // namespace switchyard
