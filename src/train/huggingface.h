// Checkpoints out to Hugging Face folders, and back, with a progress line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace switchyard {

struct Exported {
  std::string architecture;                  // "MixtralForCausalLM"
  int64_t step = 0;                          // of the checkpoint
  std::vector<std::string> tokenizer_files;  // names
};

// Writes `checkpoint` (as resolve_checkpoint takes it) as the new folder `out`, of the family that hf_family_named()
// finds, or the nearest one where `family` is empty. Throws ConfigError where a family can't express the model,
// CheckpointError.
Exported export_checkpoint(const std::filesystem::path& checkpoint, const std::string& family,
                           const std::filesystem::path& out);

struct Imported {
  std::string architecture;
  int64_t vocab_size = 0;
  std::string tokenizer;  // data.tokenizer
};

// Makes the new checkpoint `out` of a Hugging Face folder; `tokenizer` as read_hf_tokenizer takes it. Throws
// ConfigError, DataError, CheckpointError.
Imported import_folder(const std::filesystem::path& folder, const std::string& tokenizer,
                       const std::filesystem::path& out);

}  // namespace switchyard
