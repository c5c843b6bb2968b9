#include <algorithm>

#include "base/errors.h"
#include "base/logging.h"
#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/guard.h"
#include "checkpoint/manifest.h"
#include "checkpoint/step_folders.h"

namespace switchyard {
namespace {

// Holds files against their digests, and shows how far it is.
class Verification {
 public:
  Verification(const std::filesystem::path& checkpoint, const std::vector<std::string>& names, const Manifest& manifest)
      : checkpoint_(checkpoint), names_(names), manifest_(manifest) {
    for (const std::string& name : names) total_ += manifest.files.at(name).bytes;
  }

  void run() {
    for (const std::string& name : names_) check_file(name, manifest_.files.at(name));
  }

 private:
  static int64_t megabytes(uint64_t bytes) { return static_cast<int64_t>(bytes / 1'000'000); }

  void check_file(const std::string& name, const FileDigest& digest) {
    check_file_size(checkpoint_, name, digest);
    const std::string found = checksum_file(
        checkpoint_ / name, [&](uint64_t bytes) { progress_.update(megabytes(done_ + bytes), megabytes(total_)); });
    check_file_checksum(checkpoint_, name, digest, found);
    done_ += digest.bytes;
  }

  const std::filesystem::path& checkpoint_;
  const std::vector<std::string>& names_;
  const Manifest& manifest_;
  uint64_t total_ = 0;
  uint64_t done_ = 0;
  WorkProgress progress_{"MB verified"};
};

std::vector<std::string> tensor_files(const std::filesystem::path& checkpoint, TensorKind kind,
                                      const Manifest& manifest) {
  const char* file = kind == TensorKind::kModel ? kModelFile : kOptimizerFile;
  return part_files(manifest.files, file, (checkpoint / kManifestFile).string());
}

TensorSource source_of(const std::filesystem::path& checkpoint, const std::vector<std::string>& names) {
  std::vector<std::filesystem::path> paths;
  for (const std::string& name : names) paths.push_back(checkpoint / name);
  return TensorSource(paths);
}

TensorMap load_tensors(const std::filesystem::path& checkpoint, TensorKind kind, const Manifest& manifest) {
  const std::vector<std::string> names = tensor_files(checkpoint, kind, manifest);
  Verification(checkpoint, names, manifest).run();
  return source_of(checkpoint, names).read_all();
}

std::string load_text(const std::filesystem::path& checkpoint, const std::string& name, const FileDigest& digest) {
  check_file_size(checkpoint, name, digest);
  std::string text = read_file(checkpoint / name);
  check_file_checksum(checkpoint, name, digest, checksum(text));
  return text;
}

bool is_tensor_file(const std::string& name) { return name.ends_with(".safetensors"); }

// Why the user's `path` led to no checkpoint.
std::string not_found_message(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return "there is no folder " + path.string();
  return path.string() + " is neither a checkpoint (no " + kManifestFile +
         " in it), nor a run folder (no checkpoints/step-* in it), nor a checkpoints folder (no step-* in it)";
}

// A folder that was meant to be a checkpoint, by its name or its content.
bool looks_like_checkpoint(const std::filesystem::path& path) {
  const std::filesystem::path name = (path / "").parent_path().filename();  // whether or not it ends in a slash
  return std::filesystem::is_directory(path) &&
         (step_of_folder_name(name.string()) || std::filesystem::exists(path / kManifestFile) ||
          std::filesystem::exists(path / kModelFile) || std::filesystem::exists(path / kTrainerFile));
}

}  // namespace

Checkpoint load_checkpoint(const std::filesystem::path& path, const LoadOptions& options) {
  return with_checkpoint_errors([&] {
    const Manifest manifest = read_manifest(path);
    Checkpoint checkpoint;
    checkpoint.step = manifest.step;
    // Sizes of all files first: what is cut or missing is then told before the large ones are read.
    for (const auto& [name, digest] : manifest.files) check_file_size(path, name, digest);
    for (const auto& [name, digest] : manifest.files) {
      if (!is_tensor_file(name)) checkpoint.files[name] = load_text(path, name, digest);
    }
    const auto trainer = checkpoint.files.extract(kTrainerFile);
    checkpoint.trainer = parse_json(trainer.mapped(), (path / kTrainerFile).string());
    if (options.model) checkpoint.model = load_tensors(path, TensorKind::kModel, manifest);
    if (options.optimizer) checkpoint.optimizer = load_tensors(path, TensorKind::kOptimizer, manifest);
    return checkpoint;
  });
}

TensorSource open_tensors(const std::filesystem::path& path, TensorKind kind) {
  return with_checkpoint_errors([&] {
    const Manifest manifest = read_manifest(path);
    const std::vector<std::string> names = tensor_files(path, kind, manifest);
    for (const std::string& name : names) check_file_size(path, name, manifest.files.at(name));
    return source_of(path, names);
  });
}

void verify_checkpoint(const std::filesystem::path& path) {
  with_checkpoint_errors([&] {
    const Manifest manifest = read_manifest(path);
    for (const auto& [name, digest] : manifest.files) check_file_size(path, name, digest);
    std::vector<std::string> names;
    for (const auto& [name, digest] : manifest.files) names.push_back(name);
    Verification(path, names, manifest).run();
  });
}

std::optional<std::filesystem::path> find_latest_checkpoint(const std::filesystem::path& folder) {
  const auto candidates = with_checkpoint_errors([&] { return list_step_folders(folder); });
  if (candidates.empty()) return std::nullopt;
  std::string problems;
  for (const StepFolder& candidate : candidates) {
    try {
      verify_checkpoint(candidate.path);
      return candidate.path;
    } catch (const OtherFormatError&) {
      throw;
    } catch (const CheckpointError& error) {
      log_warning("skipping the partial checkpoint " + candidate.path.string() + ": " + error.what());
      problems += std::string("\n  ") + error.what();
    }
  }
  throw CheckpointError("none of the " + std::to_string(candidates.size()) + " checkpoints in " + folder.string() +
                        " is complete:" + problems);
}

std::filesystem::path resolve_checkpoint(const std::filesystem::path& path) {
  return with_checkpoint_errors([&] {
    if (std::filesystem::exists(path / "config.json") && !std::filesystem::exists(path / kManifestFile)) {
      throw CheckpointError(path.string() +
                            " is a Hugging Face folder; to make a checkpoint of it: switchyard import " +
                            path.string() + " --out CHECKPOINT");
    }
    if (looks_like_checkpoint(path)) {
      read_manifest(path);  // an explicit path to a partial one fails, naming what is wrong
      return path;
    }
    for (const std::filesystem::path& folder : {path / "checkpoints", path}) {
      if (const auto found = find_latest_checkpoint(folder)) return *found;
    }
    throw CheckpointError(not_found_message(path));
  });
}

}  // namespace switchyard
