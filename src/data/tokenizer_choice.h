// Tokenizers that exist in files, by what data.tokenizer says: "sentencepiece:FILE" or "huggingface:FILE".
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace switchyard {

// Null for a choice that names no file. Throws DataError.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& choice);

// What load_tokenizer reads: the file and, of a tokenizer.json, those beside it that tell what ends a text. None for a
// choice that names no file.
std::vector<std::filesystem::path> files_of_tokenizer(const std::string& choice);

}  // namespace switchyard
