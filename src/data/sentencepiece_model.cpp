#include "data/sentencepiece_model.h"

#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "base/errors.h"

namespace switchyard {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr uint64_t kModelPiece = 1;
constexpr uint64_t kPieceText = 1;
constexpr uint64_t kPieceType = 3;
constexpr uint64_t kUserDefined = 4;  // a type
constexpr uint64_t kModelNormalizer = 3;
constexpr uint64_t kModelDenormalizer = 5;
constexpr uint64_t kCharacterMap = 2;
constexpr uint64_t kAddDummyPrefix = 3;
constexpr uint64_t kRemoveExtraWhitespaces = 4;
constexpr uint64_t kEscapeWhitespaces = 5;
// The largest that a protocol buffer may have.
constexpr uint64_t kLargestField = (uint64_t{1} << 29) - 1;

// What the library has room for, and goes beyond: keys of a character map that one text begins with, and user-defined
// pieces that do.
constexpr int kMostNestedKeys = 32;
constexpr size_t kMostNestedPieces = 64;
// In bytes. The library goes through a piece with a function that calls itself once a byte; later versions have this
// limit, too.
constexpr size_t kLongestPiece = 8000;

struct Field {
  uint64_t number = 0;
  uint64_t value = 0;      // of a varint
  std::string_view bytes;  // of a length-delimited field
};

// Walks the fields of one protocol-buffer message (protobuf.dev, "Encoding").
class MessageReader {
 public:
  MessageReader(std::string_view message, const std::string& where) : rest_(message), where_(where) {}

  std::optional<Field> next() {
    if (rest_.empty()) return std::nullopt;
    const uint64_t tag = varint();
    Field field{.number = tag >> 3, .value = 0, .bytes = {}};
    // Of a larger number the library keeps the lower bits: it would see another field than is checked here.
    if (field.number == 0 || field.number > kLargestField) fail("a field with number " + std::to_string(field.number));
    switch (tag & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        take(4);
        break;
      default:
        fail("a field of unknown kind");
    }
    return field;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(where_ + " is not a SentencePiece model: it holds " + what);
  }

  std::string_view take(uint64_t size) {
    if (size > rest_.size()) fail("a field that reaches beyond its end");
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number longer than 64 bits");
  }

  std::string_view rest_;
  const std::string& where_;
};

// Where the children of a unit of a double array are: at this index ^ label.
size_t children_of(const std::vector<uint32_t>& units, size_t i) {
  return i ^ (size_t{units[i]} >> 10) << ((units[i] & 0x200) >> 6);
}

bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }

// Whether the library has room for all keys that one text can begin with. Units may be reached on several ways, of
// which the one with the most keys counts; on a circle with a key there is no end of them.
bool is_shallow(const std::vector<uint32_t>& units) {
  std::vector<int8_t> keys(units.size(), -1);  // the most that end on a way to this unit; -1: there is none
  keys[0] = 0;
  std::vector<size_t> reached = {0};
  size_t visits = 0;
  while (!reached.empty()) {
    const size_t unit = reached.back();
    reached.pop_back();
    // Those of real maps are visited once or twice each.
    if (keys[unit] > kMostNestedKeys || ++visits > 8 * units.size()) return false;
    for (uint32_t label = 0; label < 256; ++label) {
      const size_t child = children_of(units, unit) ^ label;
      if ((units[child] & 0x800000FF) != label) continue;
      const auto here = static_cast<int8_t>(keys[unit] + (has_leaf(units[child]) ? 1 : 0));
      if (here <= keys[child]) continue;
      keys[child] = here;
      reached.push_back(child);
    }
  }
  return true;
}

// A character map is a u32 size, a Darts double array of that many bytes, and zero-terminated replacements that its
// leaves point to. The library follows its offsets unchecked.
void check_character_map(std::string_view map, const std::string& where) {
  const auto fail = [&] { throw DataError(where + " is not a SentencePiece model: its character map is broken"); };
  uint32_t trie_bytes = 0;
  if (map.size() <= sizeof(trie_bytes)) fail();
  std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
  map.remove_prefix(sizeof(trie_bytes));
  if (trie_bytes < 1024 || trie_bytes % 1024 != 0 || trie_bytes >= map.size() || map.back() != '\0') fail();
  std::vector<uint32_t> units(trie_bytes / sizeof(uint32_t));
  std::memcpy(units.data(), map.data(), trie_bytes);
  const size_t replacements = map.size() - trie_bytes;
  for (size_t i = 0; i < units.size(); ++i) {
    if (i != 0 && units[i] >> 31 != 0) continue;  // a leaf's value, checked where it is pointed to
    const size_t children = children_of(units, i);
    if ((children | 255) >= units.size()) fail();
    if (has_leaf(units[i]) && (units[children] & 0x7FFFFFFF) >= replacements) fail();
  }
  if (!is_shallow(units)) fail();
}

// Adds the piece to `user_defined` if it is one.
void read_piece(std::string_view message, const std::string& where, std::set<std::string_view>& user_defined) {
  std::string_view text;
  bool is_user_defined = false;
  MessageReader reader(message, where);
  while (const auto field = reader.next()) {
    if (field->number == kPieceText) text = field->bytes;
    if (field->number == kPieceType && field->value == kUserDefined) is_user_defined = true;
  }
  if (text.size() > kLongestPiece || text.find('\0') != std::string_view::npos) {
    throw DataError(where + " is not a SentencePiece model: a piece is longer than " + std::to_string(kLongestPiece) +
                    " bytes, or holds a zero byte");
  }
  if (is_user_defined) user_defined.insert(text);
}

void check_user_defined(const std::set<std::string_view>& pieces, const std::string& where) {
  std::vector<std::string_view> nested;  // each begins with the one before
  for (const std::string_view piece : pieces) {
    while (!nested.empty() && !piece.starts_with(nested.back())) nested.pop_back();
    nested.push_back(piece);
    if (nested.size() > kMostNestedPieces) {
      throw DataError(where + " has more than " + std::to_string(kMostNestedPieces) +
                      " user-defined pieces that begin with each other, more than the SentencePiece library can take");
    }
  }
}

struct NormalizerFields {
  bool has_map = false;
  bool add_dummy_prefix = true;  // the proto's defaults
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

void read_normalizer(std::string_view message, const std::string& where, NormalizerFields& normalizer) {
  MessageReader reader(message, where);
  while (const auto field = reader.next()) {
    if (field->number == kCharacterMap && !field->bytes.empty()) {
      check_character_map(field->bytes, where);
      normalizer.has_map = true;
    }
    if (field->number == kAddDummyPrefix) normalizer.add_dummy_prefix = field->value != 0;
    if (field->number == kRemoveExtraWhitespaces) normalizer.remove_extra_whitespaces = field->value != 0;
    if (field->number == kEscapeWhitespaces) normalizer.escape_whitespaces = field->value != 0;
  }
}

}  // namespace

SentencePieceTraits inspect_sentencepiece_model(std::string_view model, const std::string& where) {
  NormalizerFields normalizer;
  NormalizerFields denormalizer;
  std::set<std::string_view> user_defined;
  MessageReader reader(model, where);
  while (const auto field = reader.next()) {
    if (field->number == kModelPiece) read_piece(field->bytes, where, user_defined);
    if (field->number == kModelNormalizer) read_normalizer(field->bytes, where, normalizer);
    if (field->number == kModelDenormalizer) read_normalizer(field->bytes, where, denormalizer);
  }
  check_user_defined(user_defined, where);
  SentencePieceTraits traits;
  traits.keeps_text = !normalizer.has_map && !denormalizer.has_map && !normalizer.add_dummy_prefix &&
                      !normalizer.remove_extra_whitespaces && normalizer.escape_whitespaces;
  return traits;
}

}  // namespace switchyard
