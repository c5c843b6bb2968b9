// What makes ids of a piece of text: the "model" of tokenizer.json. Private to data/.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "data/tokenizers/huggingface/vocabulary.h"

namespace switchyard {

class TokenModel {
 public:
  virtual ~TokenModel() = default;

  // Appends the ids of a piece, which is not empty. Any thread may call it at any time. Throws DataError where the
  // piece needs an unknown token and there is none.
  virtual void append(std::string_view piece, std::vector<int32_t>& ids) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

// BPE, Unigram, WordPiece and WordLevel. Throws DataError, which names a type that is none of these.
std::unique_ptr<TokenModel> read_token_model(const JsonPart& part);

std::unique_ptr<TokenModel> read_bpe(const JsonPart& part);
std::unique_ptr<TokenModel> read_unigram(const JsonPart& part);
std::unique_ptr<TokenModel> read_word_piece(const JsonPart& part);
std::unique_ptr<TokenModel> read_word_level(const JsonPart& part);

}  // namespace switchyard
