// The "pre_tokenizer" of tokenizer.json, which cuts a text into the pieces that a model sees. Private to data/.
#pragma once

#include <memory>
#include <vector>

#include "data/tokenizers/huggingface/json_part.h"
#include "data/tokenizers/huggingface/text_pieces.h"

namespace switchyard {

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void apply(TextPieces& text) const = 0;
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  // Throws DataError, which names a part that is not known.
  explicit PreTokenizer(const JsonPart& part);

  // The texts are UTF-8. Throws DataError.
  void apply(TextPieces& text) const;

 private:
  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
};

}  // namespace switchyard
