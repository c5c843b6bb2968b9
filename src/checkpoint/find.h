// Which checkpoint a path means. No tensor is needed for that, so that the command line includes no LibTorch.
#pragma once

#include <filesystem>
#include <optional>

namespace switchyard {

// The newest complete checkpoint in `folder` (manifest present, all files there with the right sizes and checksums);
// newer partial ones are logged as warnings with the reason and skipped. std::nullopt where there is none at all.
// Throws CheckpointError where all are partial, naming each, and where the newest is of another format version.
std::optional<std::filesystem::path> find_latest_checkpoint(const std::filesystem::path& folder);

// Turns what a user typed (a checkpoint folder, a run folder, or its checkpoints folder) into a checkpoint folder.
// A folder of checkpoints yields the newest complete one. Throws CheckpointError saying what was looked for, or what is
// wrong with the manifest of the checkpoint that was named.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

}  // namespace switchyard
