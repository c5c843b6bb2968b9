// Texts: names, tokenizers and paths.
#pragma once

#include <string>

#include "config/fields.h"
#include "config/yaml_tree.h"

namespace switchyard {

// Reads a text into `value` and returns "", or returns what is wrong, to follow the key. The file of a
// `sentencepiece:FILE` or `huggingface:FILE` becomes absolute.
std::string read_text(const YamlNode& node, TextRule rule, std::string& value);

// What is wrong with the name of a source, or "". Names become parts of file names and of metric tags.
std::string name_problem(const std::string& name);

// Expands '~/' and makes a relative path start at the folder of the text that says it. Returns what is wrong, or "".
std::string make_absolute(std::string& path, const Place& place);

}  // namespace switchyard
