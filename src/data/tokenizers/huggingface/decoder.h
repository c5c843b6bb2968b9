// The "decoder" of tokenizer.json, which makes text of tokens. Private to data/.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/tokenizers/huggingface/json_part.h"

namespace switchyard {

class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

class TokenDecoder {
 public:
  TokenDecoder() = default;  // puts a space between tokens
  // Throws DataError, which names a part that is not known.
  explicit TokenDecoder(const JsonPart& part);

  // Bytes of byte-level tokens stay as they are: what they spell need not be UTF-8.
  std::string decode(std::vector<std::string> tokens) const;

 private:
  bool spaced_ = true;
  std::vector<std::unique_ptr<DecoderStep>> steps_;
};

}  // namespace switchyard
