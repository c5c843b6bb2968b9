#include <CLI/CLI.hpp>
#include <charconv>
#include <fstream>
#include <iostream>
#include <memory>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/standard_streams.h"
#include "base/text.h"
#include "checkpoint/find.h"
#include "cli/commands.h"
#include "data/tokenizer_choice.h"

namespace switchyard {
namespace {

struct TokenizeOptions {
  std::string tokenizer;
  std::string file;
  bool decode = false;
  bool json = false;
};

std::unique_ptr<Tokenizer> tokenizer_for(const std::string& choice) {
  if (choice == "byte") return make_byte_tokenizer();
  if (auto loaded = load_tokenizer(choice)) return loaded;
  const std::filesystem::path file = resolve_checkpoint(choice) / "tokenizer.json";
  return deserialize_tokenizer(read_file(file), file.string());
}

std::string text_of_json(const std::string& line, const std::string& where) {
  const Json json = parse_json(line, where);
  if (!json.is_string()) throw DataError(where + ": must be a JSON string, it is " + json.type_name());
  return json.get<std::string>();
}

std::string line_of_ids(const std::vector<int32_t>& ids) {
  std::string line;
  for (const int32_t id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  return line;
}

std::vector<int32_t> ids_of_line(const std::string& line, const std::string& where) {
  std::vector<int32_t> ids;
  const char* const end = line.data() + line.size();
  for (const char* next = line.data(); next != end;) {
    if (*next == ' ') {
      ++next;
      continue;
    }
    const auto [stop, error] = std::from_chars(next, end, ids.emplace_back());
    if (error != std::errc() || (stop != end && *stop != ' ')) {
      throw DataError(where + " is " + in_quotes(line) + "; it must be ids with spaces between them");
    }
    next = stop;
  }
  return ids;
}

std::string converted(const Tokenizer& tokenizer, const TokenizeOptions& options, const std::string& line,
                      const std::string& where) {
  if (!options.decode) return line_of_ids(tokenizer.encode(options.json ? text_of_json(line, where) : line));
  const std::string text = tokenizer.decode(ids_of_line(line, where));
  return options.json ? Json(text).dump(-1, ' ', false, Json::error_handler_t::replace) : text;
}

int run_tokenize(const TokenizeOptions& options) {
  const auto tokenizer = tokenizer_for(options.tokenizer);
  std::ifstream file;
  if (!options.file.empty()) {
    file.open(options.file, std::ios::binary);
    if (!file) throw DataError("cannot read " + options.file);
  }
  std::istream& input = options.file.empty() ? std::cin : file;
  std::string line;
  for (int64_t number = 1; std::getline(input, line); ++number) {
    print_text(converted(*tokenizer, options, line, "line " + std::to_string(number)) + "\n");
  }
  if (input.bad()) throw DataError("cannot read " + (options.file.empty() ? "standard input" : options.file));
  return kExitDone;
}

}  // namespace

Command add_tokenize(CLI::App& app) {
  auto options = std::make_shared<TokenizeOptions>();
  app.add_option("TOKENIZER", options->tokenizer,
                 "byte, sentencepiece:FILE, huggingface:FILE (a tokenizer.json), or a checkpoint or run folder")
      ->required();
  app.add_option("FILE", options->file, "The text; standard input by default");
  app.add_flag("--decode", options->decode, "Lines of ids to text");
  app.add_flag("--json", options->json, "Texts are JSON strings, one a line, so that they can hold line ends");
  return [options] { return run_tokenize(*options); };
}

}  // namespace switchyard
