#include "checkpoint/huggingface/tokenizer_files.h"

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "checkpoint/guard.h"
#include "checkpoint/huggingface/folder.h"
#include "data/base64.h"
#include "data/tokenizer_choice.h"
#include "data/tokenizers/huggingface/byte_characters.h"

namespace switchyard {
namespace {

constexpr const char* kOwnFile = "switchyard-tokenizer.json";
constexpr const char* kSentencePieceFile = "tokenizer.model";
constexpr const char* kLibraryFile = "tokenizer.json";
constexpr const char* kSettingsFile = "tokenizer_config.json";
constexpr const char* kEndOfText = "<|endoftext|>";
constexpr uint64_t kMaxTokenizerBytes = uint64_t{1} << 28;

OrderedJson byte_level_model() {
  OrderedJson vocabulary = OrderedJson::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[std::string(byte_character(static_cast<unsigned char>(byte)))] = byte;
  }
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

// tokenizer_config.json for transformers' AutoTokenizer.
std::string settings_file(const std::string& end_of_text) {
  const OrderedJson settings = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                {"eos_token", end_of_text},
                                {"clean_up_tokenization_spaces", false}};
  return settings.dump(2) + "\n";
}

// A checkpoint has a tokenizer.json of its own, so that this one gets another name in it; what ends a text stands
// beside.
FolderTokenizer from_library_file(const std::filesystem::path& file) {
  constexpr const char* kName = "huggingface-tokenizer.json";
  auto tokenizer = load_tokenizer("huggingface:" + file.string());
  const Json own = parse_json(tokenizer->serialize(), "the tokenizer");
  return {std::move(tokenizer),
          std::string("huggingface:") + kName,
          {{kName, own.at("file")}, {kSettingsFile, settings_file(own.at("end_of_text"))}}};
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
  if (own.at("type") == "huggingface") {
    return {{kLibraryFile, own.at("file")}, {kSettingsFile, settings_file(own.at("end_of_text"))}};
  }
  return {{kOwnFile, text + "\n"},
          {kLibraryFile, library_file(own, tokenizer.end_of_text())},
          {kSettingsFile, settings_file(kEndOfText)}};
}

FolderTokenizer read_hf_tokenizer(const std::filesystem::path& folder, const std::string& choice) {
  if (choice == "byte") return {make_byte_tokenizer(), "byte", {}};
  if (const auto files = files_of_tokenizer(choice); !files.empty()) {
    return choice.starts_with("huggingface:") ? from_library_file(files.front()) : from_sentencepiece(files.front());
  }
  if (!choice.empty()) {
    throw ConfigError("the tokenizer " + in_quotes(choice) +
                      " is none of byte, sentencepiece:FILE and huggingface:FILE");
  }
  if (holds(folder, kOwnFile)) return from_own_file(folder);
  if (holds(folder, kSentencePieceFile)) return from_sentencepiece(folder / kSentencePieceFile);
  if (holds(folder, kLibraryFile)) return from_library_file(folder / kLibraryFile);
  throw ConfigError(folder.string() + " holds no tokenizer that is read here (" + kOwnFile + ", " + kSentencePieceFile +
                    ", " + kLibraryFile + "): give one with --tokenizer byte, sentencepiece:FILE or huggingface:FILE");
}

}  // namespace switchyard
