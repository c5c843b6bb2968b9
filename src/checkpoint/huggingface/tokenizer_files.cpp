#include "checkpoint/huggingface/tokenizer_files.h"

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "checkpoint/guard.h"
#include "checkpoint/huggingface/folder.h"
#include "data/base64.h"

namespace switchyard {
namespace {

constexpr const char* kOwnFile = "switchyard-tokenizer.json";
constexpr const char* kSentencePieceFile = "tokenizer.model";
constexpr const char* kEndOfText = "<|endoftext|>";
constexpr uint64_t kMaxTokenizerBytes = uint64_t{1} << 28;

// The character that stands for a byte in byte-level vocabularies (GPT-2): printable Latin-1 for itself, the others
// from U+0100 on, in order.
std::string byte_character(int byte) {
  const auto printable = [](int value) {
    return (value >= 0x21 && value <= 0x7e) || (value >= 0xa1 && value <= 0xff && value != 0xad);
  };
  uint32_t code = static_cast<uint32_t>(byte);
  if (!printable(byte)) {
    code = 0x100;
    for (int before = 0; before < byte; ++before) code += printable(before) ? 0 : 1;
  }
  std::string text;
  append_utf8(text, code);
  return text;
}

OrderedJson byte_level_model() {
  OrderedJson vocabulary = OrderedJson::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_character(byte)] = byte;
  const OrderedJson level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  return {{"pre_tokenizer", level},
          {"decoder", level},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", OrderedJson::array()}}}};
}

// `characters`: code points, whose ids are their places; the id behind them is the unknown one.
OrderedJson character_model(const Json& characters) {
  OrderedJson vocabulary = OrderedJson::object();
  for (const Json& code : characters) {
    std::string text;
    append_utf8(text, code.get<uint32_t>());
    vocabulary[text] = vocabulary.size();
  }
  vocabulary["<unk>"] = vocabulary.size();
  return {{"pre_tokenizer",
           {{"type", "Split"}, {"pattern", {{"Regex", "[\\s\\S]"}}}, {"behavior", "Isolated"}, {"invert", false}}},
          {"decoder", {{"type", "Fuse"}}},
          {"model", {{"type", "WordLevel"}, {"vocab", vocabulary}, {"unk_token", "<unk>"}}}};
}

// tokenizer.json of the `tokenizers` library.
std::string library_file(const Json& own, int32_t end_of_text) {
  const bool bytes = own.at("type") == "byte";
  OrderedJson parts = bytes ? byte_level_model() : character_model(own.at("characters"));
  const OrderedJson end = {{"id", end_of_text}, {"content", kEndOfText}, {"single_word", false}, {"lstrip", false},
                           {"rstrip", false},   {"normalized", false},   {"special", true}};
  const OrderedJson file = {{"version", "1.0"},          {"truncation", nullptr},
                            {"padding", nullptr},        {"added_tokens", OrderedJson::array({end})},
                            {"normalizer", nullptr},     {"pre_tokenizer", parts["pre_tokenizer"]},
                            {"post_processor", nullptr}, {"decoder", parts["decoder"]},
                            {"model", parts["model"]}};
  return file.dump(1) + "\n";
}

std::string read_text(const std::filesystem::path& path) {
  try {
    return read_file(path, kMaxTokenizerBytes);
  } catch (const Error& error) {
    throw DataError(error.what());
  }
}

FolderTokenizer from_sentencepiece(const std::filesystem::path& file) {
  return {load_sentencepiece(file),
          std::string("sentencepiece:") + kSentencePieceFile,
          {{kSentencePieceFile, read_text(file)}}};
}

FolderTokenizer from_own_file(const std::filesystem::path& folder) {
  const std::string where = (folder / kOwnFile).string();
  const std::string text = read_text(folder / kOwnFile);
  auto tokenizer = deserialize_tokenizer(text, where);
  const std::string type = parse_json(text, where).at("type");
  if (type != "byte" && type != "char") {
    throw DataError(where + ": its type is " + in_quotes(type) + "; it must be byte or char");
  }
  return {std::move(tokenizer), type, {}};
}

bool holds(const std::filesystem::path& folder, const char* name) {
  if (!std::filesystem::exists(std::filesystem::symlink_status(folder / name))) return false;
  check_plain_file(folder, name, folder.string());
  return true;
}

}  // namespace

std::map<std::string, std::string> hf_tokenizer_files(const Tokenizer& tokenizer) {
  const std::string text = tokenizer.serialize();
  const Json own = parse_json(text, "the tokenizer");
  if (own.at("type") == "sentencepiece") {
    return {{kSentencePieceFile, decode_base64(own.at("model").get<std::string>(), "the tokenizer")}};
  }
  const OrderedJson settings = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                {"eos_token", kEndOfText},
                                {"clean_up_tokenization_spaces", false}};
  return {{kOwnFile, text + "\n"},
          {"tokenizer.json", library_file(own, tokenizer.end_of_text())},
          {"tokenizer_config.json", settings.dump(2) + "\n"}};
}

FolderTokenizer read_hf_tokenizer(const std::filesystem::path& folder, const std::string& choice) {
  constexpr std::string_view kPrefix = "sentencepiece:";
  if (choice == "byte") return {make_byte_tokenizer(), "byte", {}};
  if (choice.starts_with(kPrefix)) return from_sentencepiece(choice.substr(kPrefix.size()));
  if (!choice.empty()) {
    throw ConfigError("the tokenizer " + in_quotes(choice) + " is none of byte and sentencepiece:FILE");
  }
  if (holds(folder, kOwnFile)) return from_own_file(folder);
  if (holds(folder, kSentencePieceFile)) return from_sentencepiece(folder / kSentencePieceFile);
  throw ConfigError(folder.string() + " holds no tokenizer that is read here (" + kSentencePieceFile + ", " + kOwnFile +
                    "): give one with --tokenizer byte or --tokenizer sentencepiece:FILE");
}

}  // namespace switchyard
