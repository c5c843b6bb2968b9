#include "data/tokenizer_choice.h"

#include "data/tokenizers/huggingface/huggingface_tokenizer.h"

namespace switchyard {
namespace {

constexpr std::string_view kSentencePiece = "sentencepiece:";
constexpr std::string_view kHuggingFace = "huggingface:";

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& choice) {
  if (choice.starts_with(kSentencePiece)) return load_sentencepiece(choice.substr(kSentencePiece.size()));
  if (choice.starts_with(kHuggingFace)) return load_huggingface(choice.substr(kHuggingFace.size()));
  return nullptr;
}

std::vector<std::filesystem::path> files_of_tokenizer(const std::string& choice) {
  if (choice.starts_with(kSentencePiece)) return {choice.substr(kSentencePiece.size())};
  if (!choice.starts_with(kHuggingFace)) return {};
  const std::filesystem::path file = choice.substr(kHuggingFace.size());
  std::vector<std::filesystem::path> files = neighbours_of_tokenizer(file);
  files.insert(files.begin(), file);
  return files;
}

}  // namespace switchyard
