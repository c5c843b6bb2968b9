#include "train/huggingface.h"

#include "base/errors.h"
#include "base/logging.h"
#include "base/text.h"
#include "checkpoint/huggingface/convert.h"
#include "checkpoint/huggingface/tokenizer_files.h"
#include "train/run_state.h"

namespace switchyard {
namespace {

// What the folder can't say and transformers does otherwise.
void warn_of_differences(const Config& config) {
  if (config.moe && config.moe->eval_capacity_factor) {
    log_warning("moe.eval_capacity_factor is " + formatted("%g", *config.moe->eval_capacity_factor) +
                ": switchyard eval drops tokens of full experts, transformers none, so losses can differ");
  }
}

}  // namespace

Exported export_checkpoint(const std::filesystem::path& path, const std::string& family,
                           const std::filesystem::path& out) {
  const auto folder = resolve_checkpoint(path);
  const Checkpoint checkpoint = load_checkpoint(folder, {.optimizer = false});
  const Config config = checkpoint_config(checkpoint, folder, {});
  const auto tokenizer = checkpoint_tokenizer(checkpoint, folder);
  const HfFamily chosen = family.empty() ? nearest_hf_family(config) : hf_family_named(family).value();
  const auto files = hf_tokenizer_files(*tokenizer);
  export_hf_model(out, chosen, config, checkpoint.model, tokenizer->end_of_text(), files);
  warn_of_differences(config);
  Exported exported{architecture_of(chosen), checkpoint.step, {}};
  for (const auto& [name, text] : files) exported.tokenizer_files.push_back(name);
  return exported;
}

Imported import_folder(const std::filesystem::path& folder, const std::string& choice,
                       const std::filesystem::path& out) {
  if (std::filesystem::exists(std::filesystem::symlink_status(out))) {
    throw CheckpointError(out.string() + " exists already; import writes a new folder");
  }
  FolderTokenizer tokenizer = read_hf_tokenizer(folder, choice);
  ImportedModel imported = import_hf_model(folder);
  const int64_t vocabulary = *imported.config.model.vocab_size;
  if (tokenizer.tokenizer->vocab_size() > vocabulary) {
    throw ConfigError("the tokenizer has " + std::to_string(tokenizer.tokenizer->vocab_size()) +
                      " tokens, the model only " + std::to_string(vocabulary) + "; give another one with --tokenizer");
  }
  imported.config.data.tokenizer = tokenizer.config_value;
  Checkpoint checkpoint = make_initial_checkpoint(std::move(imported.model), imported.config, *tokenizer.tokenizer);
  checkpoint.files.merge(tokenizer.files);
  save_checkpoint_as(out, checkpoint);
  return {architecture_of(imported.family), vocabulary, tokenizer.config_value};
}

}  // namespace switchyard
