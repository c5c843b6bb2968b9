// A tokenizer from the text of a tokenizer.json of Hugging Face's `tokenizers` package. Private to data/.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "data/tokenizer.h"
#include "data/tokenizers/huggingface/end_of_text.h"

namespace switchyard {

// The ids are those of that package, but an end_of_text that its post-processor adds is left to the caller. `file` is
// untrusted; the first of `end_of_text` that it has ends a text. Throws DataError starting with `where`.
std::unique_ptr<Tokenizer> make_huggingface_tokenizer(std::string file, const std::vector<TokenOrId>& end_of_text,
                                                      const std::string& where);

// The same of a file, whose neighbours may say what ends a text.
std::unique_ptr<Tokenizer> load_huggingface(const std::filesystem::path& file);

}  // namespace switchyard
