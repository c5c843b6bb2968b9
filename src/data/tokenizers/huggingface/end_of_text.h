// Which token ends a text, as the files beside a tokenizer.json say. Private to data/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

namespace switchyard {

using TokenOrId = std::variant<std::string, int64_t>;

// Those of the files beside `tokenizer` that are asked, in the order of asking.
std::vector<std::filesystem::path> neighbours_of_tokenizer(const std::filesystem::path& tokenizer);

// What the neighbours name, then the usual names: the first that the tokenizer has is meant. Throws DataError for a
// neighbour that can't be read.
std::vector<TokenOrId> end_of_text_choices(const std::filesystem::path& tokenizer);

}  // namespace switchyard
