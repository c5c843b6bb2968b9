#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/text.h"
#include "cli/commands.h"
#include "train/huggingface.h"

namespace switchyard {
namespace {

struct ImportOptions {
  std::string folder;
  std::string tokenizer;
  std::string out;
};

int run_import(const ImportOptions& options) {
  const Imported imported = import_folder(options.folder, options.tokenizer, options.out);
  std::printf("wrote %s: %s, vocabulary %s, tokenizer %s\n", options.out.c_str(), imported.architecture.c_str(),
              with_thousands(imported.vocab_size).c_str(), imported.tokenizer.c_str());
  return kExitDone;
}

}  // namespace

Command add_import(CLI::App& app) {
  auto options = std::make_shared<ImportOptions>();
  app.add_option("DIR", options->folder, "A Hugging Face folder: config.json and safetensors files")->required();
  app.add_option("--tokenizer", options->tokenizer,
                 "byte, sentencepiece:FILE or huggingface:FILE; by default the folder's");
  app.add_option("--out", options->out, "The checkpoint folder to write; it must be new")->required();
  return [options] { return run_import(*options); };
}

}  // namespace switchyard
