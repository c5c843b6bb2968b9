#include "base/errors.h"
#include "base/logging.h"
#include "base/new_folder.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/guard.h"
#include "checkpoint/manifest.h"
#include "checkpoint/step_folders.h"
#include "parallel/agree.h"

namespace switchyard {
namespace {

void check_arguments(const Checkpoint& checkpoint, int64_t keep_last) {
  if (checkpoint.step < 0) {
    throw CheckpointError("cannot save step " + std::to_string(checkpoint.step) + ": steps count from 0");
  }
  if (keep_last < 0) {
    throw CheckpointError("cannot keep the last " + std::to_string(keep_last) + " checkpoints: 0 (all) or more");
  }
  for (const auto& [name, content] : checkpoint.files) {
    const bool taken = name == kManifestFile || name == kModelFile || name == kOptimizerFile || name == kTrainerFile;
    if (!is_plain_file_name(name) || taken) {
      throw CheckpointError("a checkpoint cannot hold a file named " + in_quotes(name) +
                            ": it needs a plain name, other than the checkpoint's own files'");
    }
  }
}

// JSON that reads back as what was given: no infinity or NaN (they become null), not too deep, valid UTF-8.
std::string trainer_text(const Json& trainer, const std::string& where) {
  const std::string text = trainer.dump(2) + "\n";
  if (parse_json(text, where) != trainer) {
    throw CheckpointError(where + ": a value in it cannot be written as JSON (not finite, or not JSON at all)");
  }
  return text;
}

CheckpointShare whole_share(const Checkpoint& checkpoint) {
  return {whole_pieces(checkpoint.model), whole_pieces(checkpoint.optimizer)};
}

// The files of one rank, by name.
std::map<std::string, FileDigest> write_share(const std::filesystem::path& folder, const CheckpointShare& share,
                                              const Group& ranks) {
  const std::string model = part_file(kModelFile, ranks.rank(), ranks.size());
  const std::string optimizer = part_file(kOptimizerFile, ranks.rank(), ranks.size());
  return {{model, write_pieces(folder / model, share.model)},
          {optimizer, write_pieces(folder / optimizer, share.optimizer)}};
}

// Everything but the tensors, whose files are known; the manifest last.
void write_rest(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                std::map<std::string, FileDigest> files) {
  Manifest manifest{.step = checkpoint.step, .files = std::move(files)};
  const std::string trainer = trainer_text(checkpoint.trainer, (folder / kTrainerFile).string());
  manifest.files[kTrainerFile] = write_file_durably(folder / kTrainerFile, trainer);
  for (const auto& [name, content] : checkpoint.files) {
    manifest.files[name] = write_file_durably(folder / name, content);
  }
  write_file_durably(folder / kManifestFile, manifest_text(manifest));
  sync_directory(folder);
}

// Every rank's files, or the reason why one could not write: as text, to be told to the others.
std::string write_and_tell(const std::filesystem::path& folder, const CheckpointShare& share, const Group& ranks) {
  Json told = Json::object();
  try {
    for (const auto& [name, digest] : write_share(folder, share, ranks)) {
      told["files"][name] = {digest.bytes, digest.checksum};
    }
  } catch (const std::exception& error) {
    told["error"] = error.what();
  }
  return told.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::map<std::string, FileDigest> files_of_all(const std::vector<std::string>& told) {
  std::map<std::string, FileDigest> files;
  for (size_t rank = 0; rank < told.size(); ++rank) {
    const Json json = parse_json(told[rank], "rank " + std::to_string(rank));
    if (json.contains("error")) {
      const std::string text = json["error"].get<std::string>();
      throw CheckpointError(told.size() == 1 ? text : "rank " + std::to_string(rank) + " could not save: " + text);
    }
    for (const auto& [name, entry] : json["files"].items()) {
      files[name] = {entry[0].get<uint64_t>(), entry[1].get<std::string>()};
    }
  }
  return files;
}

// Whether a whole checkpoint is there; a damaged one is told and will be replaced. Throws OtherFormatError.
bool is_saved_already(const std::filesystem::path& path) {
  if (!std::filesystem::exists(std::filesystem::symlink_status(path))) return false;
  try {
    verify_checkpoint(path);
    return true;
  } catch (const OtherFormatError&) {
    throw;
  } catch (const CheckpointError& error) {
    log_warning("replacing the partial checkpoint " + path.string() + ": " + error.what());
    return false;
  }
}

bool has_all_files(const std::filesystem::path& path) {
  try {
    const Manifest manifest = read_manifest(path);
    for (const auto& [name, digest] : manifest.files) check_file_size(path, name, digest);
    return true;
  } catch (const CheckpointError&) {
    return false;
  }
}

// The one just saved always stays; sizes decide which others count, since reading all of them at every save would be
// slow. Partial ones are left for the user to look at. Failing here loses nothing, so it only warns.
void prune(const std::filesystem::path& folder, int64_t saved_step, int64_t keep_last) {
  if (keep_last == 0) return;
  try {
    int64_t kept = 1;
    for (const StepFolder& candidate : list_step_folders(folder)) {
      if (candidate.step == saved_step || !has_all_files(candidate.path)) continue;
      if (++kept > keep_last) remove_folder(candidate.path);
    }
  } catch (const std::exception& error) {
    log_warning("old checkpoints in " + folder.string() + " could not be removed: " + error.what());
  }
}

Group one_rank() { return Group("one rank", 0, 1, nullptr, nullptr); }

}  // namespace

std::filesystem::path save_checkpoint_share(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                                            const CheckpointShare& share, int64_t keep_last, Group& ranks) {
  return with_checkpoint_errors([&] {
    const std::filesystem::path target = folder / step_folder_name(checkpoint.step);
    std::unique_ptr<NewFolder> temporary;
    on_first(ranks, [&] {
      check_arguments(checkpoint, keep_last);
      remove_leftovers(folder);
      if (!is_saved_already(target)) temporary = std::make_unique<NewFolder>(target);
    });
    const std::string place = gather_texts(ranks, temporary ? temporary->path().string() : "")[0];
    if (!place.empty()) {
      const auto files = files_of_all(gather_texts(ranks, write_and_tell(place, share, ranks)));
      on_first(ranks, [&] {
        write_rest(place, checkpoint, files);
        temporary->replace();  // a damaged one of the same step
      });
    }
    on_first(ranks, [&] { prune(folder, checkpoint.step, keep_last); });
    return target;
  });
}

std::filesystem::path save_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                                      int64_t keep_last) {
  Group alone = one_rank();
  return save_checkpoint_share(folder, checkpoint, whole_share(checkpoint), keep_last, alone);
}

void save_checkpoint_as(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  with_checkpoint_errors([&] {
    check_arguments(checkpoint, /*keep_last=*/0);
    const std::filesystem::path target = (std::filesystem::absolute(path) / "").parent_path();
    if (std::filesystem::exists(std::filesystem::symlink_status(target))) {
      throw CheckpointError(target.string() + " exists already");
    }
    NewFolder temporary(target);
    write_rest(temporary.path(), checkpoint, write_share(temporary.path(), whole_share(checkpoint), one_rank()));
    temporary.commit();
  });
}

}  // namespace switchyard
