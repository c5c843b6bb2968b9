// The tokenizer's files in a Hugging Face folder.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace switchyard {

// Name -> content. SentencePiece: tokenizer.model, as Llama's and Mixtral's folders have it. A tokenizer.json: that
// very one, and a tokenizer_config.json that names what ends a text. byte and char: switchyard-tokenizer.json, and the
// same tokenizer as tokenizer.json for the `tokenizers` library, so that transformers' AutoTokenizer makes the same ids
// (but takes "<|endoftext|>" in a text for the end of the text).
std::map<std::string, std::string> hf_tokenizer_files(const Tokenizer& tokenizer);

struct FolderTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string config_value;                  // of data.tokenizer, relative to the checkpoint
  std::map<std::string, std::string> files;  // that the checkpoint has to hold for it
};

// `choice`: "byte", "sentencepiece:FILE", "huggingface:FILE", or "" for what the folder holds: the first of
// switchyard-tokenizer.json, tokenizer.model and tokenizer.json. Throws ConfigError for another choice or where the
// folder holds none, DataError for a bad file.
FolderTokenizer read_hf_tokenizer(const std::filesystem::path& folder, const std::string& choice);

}  // namespace switchyard
