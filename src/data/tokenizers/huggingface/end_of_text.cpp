#include "data/tokenizers/huggingface/end_of_text.h"

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "data/guard.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLargestNeighbour = uint64_t{1} << 24;

Json read_neighbour(const fs::path& path) {
  return with_data_errors([&] { return parse_json(read_file(path, kLargestNeighbour), path.string()); });
}

// "eos_token" is a text or an added token, "eos_token_id" a number or several.
void add_choices(const Json& file, std::vector<TokenOrId>& choices) {
  if (!file.is_object()) return;
  if (auto token = file.find("eos_token"); token != file.end()) {
    const Json& text = token->is_object() && token->contains("content") ? token->at("content") : *token;
    if (text.is_string()) choices.emplace_back(text.get<std::string>());
  }
  if (auto id = file.find("eos_token_id"); id != file.end()) {
    const Json& first = id->is_array() && !id->empty() ? id->front() : *id;
    if (first.is_number_integer()) choices.emplace_back(first.get<int64_t>());
  }
}

}  // namespace

std::vector<fs::path> neighbours_of_tokenizer(const fs::path& tokenizer) {
  std::vector<fs::path> found;
  for (const char* name : {"tokenizer_config.json", "generation_config.json", "config.json"}) {
    const fs::path path = tokenizer.parent_path() / name;
    if (std::error_code error; fs::is_regular_file(path, error)) found.push_back(path);
  }
  return found;
}

std::vector<TokenOrId> end_of_text_choices(const fs::path& tokenizer) {
  std::vector<TokenOrId> choices;
  for (const fs::path& path : neighbours_of_tokenizer(tokenizer)) add_choices(read_neighbour(path), choices);
  for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>", "[SEP]", "<eos>"}) {
    choices.emplace_back(name);
  }
  return choices;
}

}  // namespace switchyard
