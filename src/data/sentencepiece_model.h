// Looking into a serialized SentencePiece model (sentencepiece_model.proto) before the library gets it. Private to
// data/.
#pragma once

#include <string>
#include <string_view>

namespace switchyard {

struct SentencePieceTraits {
  // Text passes unchanged but for ' ' becoming U+2581: no character map, no dummy prefix, spaces kept and escaped.
  bool keeps_text = false;
};

// Checks what the library would trust blindly: that the message is well-formed, that every step of its character maps'
// double arrays stays inside them, and that no more keys match at one place than it has room for. Throws DataError
// starting with `where`.
SentencePieceTraits inspect_sentencepiece_model(std::string_view model, const std::string& where);

}  // namespace switchyard
