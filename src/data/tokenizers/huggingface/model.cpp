#include "data/tokenizers/huggingface/model.h"

#include "base/text.h"

namespace switchyard {
namespace {

// Files of old versions have no type.
std::string type_of_model(const JsonPart& part) {
  if (const auto type = part.find("type")) return type->text();
  if (part.find("merges")) return "BPE";
  if (part.find("unk_id")) return "Unigram";
  return part.find("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

}  // namespace

std::unique_ptr<TokenModel> read_token_model(const JsonPart& part) {
  const std::string type = type_of_model(part);
  if (type == "BPE") return read_bpe(part);
  if (type == "Unigram") return read_unigram(part);
  if (type == "WordPiece") return read_word_piece(part);
  if (type == "WordLevel") return read_word_level(part);
  part.fail("the model " + in_quotes(type) + " is not known; it must be BPE, Unigram, WordPiece or WordLevel");
}

}  // namespace switchyard
