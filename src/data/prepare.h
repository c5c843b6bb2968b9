// From source files to a folder of shards. Private to data/.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/cache.h"
#include "data/tokenizer.h"

namespace switchyard {

inline constexpr const char* kTokenizerFile = "tokenizer.json";

// Names inside a cache folder.
std::string train_file(const std::string& domain);
std::string validation_file(const std::string& domain);

// Reads `inputs` (of find_inputs), splits, makes the tokenizer, tokenises, and writes everything into the empty folder
// `folder`, the manifest last. Holds all text of the sources and the tokens of one domain in memory. Throws Error.
// `given`: the tokenizer, instead of the one that data.tokenizer makes.
void prepare_folder(const Config& config, std::vector<InputFile> inputs, const std::filesystem::path& folder,
                    const Tokenizer* given);

}  // namespace switchyard
