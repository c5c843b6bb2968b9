#include "config/texts.h"

#include <algorithm>
#include <cstdlib>

#include "base/text.h"
#include "config/text_check.h"

namespace switchyard {
namespace {

bool has_control_characters(const std::string& text) { return shortened(text, text.size()) != text; }

std::string expand_home(std::string& path) {
  if (!path.starts_with("~/")) {
    return "";
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    return "starts with '~/', but HOME is not set";
  }
  path = home + path.substr(1);
  return "";
}

std::string read_tokenizer(const YamlNode& node, std::string& tokenizer) {
  static const std::vector<std::string> kKinds = {"byte", "char", "sentencepiece"};
  if (std::find(kKinds.begin(), kKinds.end(), tokenizer) != kKinds.end()) {
    return "";
  }
  const std::string prefix = tokenizer.substr(0, tokenizer.find(':') + 1);
  if (prefix != "sentencepiece:" && prefix != "huggingface:") {
    const std::string near = tokenizer.size() <= 64 ? nearest_word(tokenizer, kKinds) : "";
    return "is " + in_quotes(tokenizer) +
           "; it must be byte, char, sentencepiece, sentencepiece:FILE or huggingface:FILE" +
           (near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  std::string file = tokenizer.substr(prefix.size());
  if (file.empty()) {
    return "names no file after '" + prefix + "'" +
           (prefix == "sentencepiece:" ? "; leave the colon out to train a model" : "");
  }
  std::string what = make_absolute(file, node.place);
  tokenizer = prefix + file;
  return what;
}

}  // namespace

std::string name_problem(const std::string& name) {
  static constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  const bool fits = !name.empty() && name.size() <= 100 && name.front() != '.' &&
                    name.find_first_not_of(kAllowed) == std::string::npos;
  return fits ? ""
              : "is " + in_quotes(name) +
                    "; a name has 1 to 100 letters, digits, '_', '-' or '.', and does not begin with '.'";
}

std::string make_absolute(std::string& path, const Place& place) {
  if (std::string what = expand_home(path); !what.empty()) {
    return what;
  }
  path = (place.source->folder / path).lexically_normal().string();
  return !has_control_characters(path) ? "" : "leads to a folder whose name is not plain UTF-8 text";
}

std::string read_text(const YamlNode& node, TextRule rule, std::string& value) {
  if (!node.is_scalar()) {
    return "needs a text, found " + described(node);
  }
  if (node.text.empty()) {
    return "must not be empty";
  }
  if (has_control_characters(node.text)) {
    return "has a control character in " + in_quotes(node.text);
  }
  value = node.text;
  switch (rule) {
    case TextRule::kAny:
      return "";
    case TextRule::kSourceName:
      return name_problem(node.text);
    case TextRule::kTokenizer:
      return read_tokenizer(node, value);
    case TextRule::kFolder:
      return expand_home(value);
  }
  return "";
}

}  // namespace switchyard
