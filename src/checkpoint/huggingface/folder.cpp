#include "checkpoint/huggingface/folder.h"

#include <set>

#include "base/files.h"
#include "base/new_folder.h"
#include "base/progress.h"
#include "base/text.h"
#include "checkpoint/guard.h"
#include "checkpoint/huggingface/json_keys.h"
#include "checkpoint/manifest.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kTensorFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 24;
constexpr uint64_t kMaxIndexBytes = uint64_t{1} << 28;
constexpr size_t kMostShards = 10'000;

bool is_there(const fs::path& path) { return fs::exists(fs::symlink_status(path)); }

Json read_json(const fs::path& folder, const std::string& name, uint64_t max_bytes) {
  check_plain_file(folder, name, folder.string());
  return parse_json(read_file(folder / name, max_bytes), (folder / name).string());
}

// "model-00001-of-00003.safetensors"
std::string shard_name(size_t index, size_t count) {
  return formatted("model-%05zu-of-%05zu.safetensors", index, count);
}

// Tensors in order, a new group where one more would exceed the limit.
std::vector<std::vector<const HfTensor*>> into_shards(const std::vector<HfTensor>& tensors, uint64_t shard_bytes) {
  std::vector<std::vector<const HfTensor*>> shards(1);
  uint64_t bytes = 0;
  for (const HfTensor& tensor : tensors) {
    if (!shards.back().empty() && bytes + tensor.bytes > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(&tensor);
    bytes += tensor.bytes;
  }
  return shards;
}

void write_tensors(const fs::path& folder, const std::vector<HfTensor>& tensors, uint64_t shard_bytes) {
  const auto shards = into_shards(tensors, shard_bytes);
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  uint64_t total = 0;
  WorkProgress progress("files written");
  for (size_t i = 0; i < shards.size(); ++i) {
    progress.update(static_cast<int64_t>(i), static_cast<int64_t>(shards.size()));
    const std::string name = shards.size() == 1 ? kTensorFile : shard_name(i + 1, shards.size());
    TensorMap map;
    for (const HfTensor* tensor : shards[i]) {
      map[tensor->name] = tensor->make();
      index["weight_map"][tensor->name] = name;
      total += tensor->bytes;
    }
    write_safetensors(folder / name, map, {{"format", "pt"}});
  }
  index["metadata"]["total_size"] = total;
  if (shards.size() > 1) write_file_durably(folder / kIndexFile, index.dump(2) + "\n");
}

}  // namespace

void check_plain_file(const fs::path& folder, const std::string& name, const std::string& whose) {
  if (!is_plain_file_name(name)) {
    throw CheckpointError(whose + " names the file " + in_quotes(name) +
                          ": it must be a plain name, of a file in the same folder");
  }
  const auto status = fs::symlink_status(folder / name);
  if (!fs::exists(status)) throw CheckpointError((folder / name).string() + " is missing");
  if (fs::is_symlink(status)) {
    throw CheckpointError((folder / name).string() + " is a link, which is not followed; copy the folder with cp -rL");
  }
  if (!fs::is_regular_file(status)) throw CheckpointError((folder / name).string() + " is no regular file");
}

bool is_readable_weight(torch::ScalarType dtype) {
  return dtype == torch::kFloat32 || dtype == torch::kBFloat16 || dtype == torch::kFloat16;
}

HfFolder::HfFolder(const fs::path& path) : path_(path) {
  with_checkpoint_errors([&] {
    if (!fs::is_directory(path)) throw CheckpointError("there is no folder " + path.string());
    config_ = read_json(path, kConfigFile, kMaxConfigBytes);
    const bool single = is_there(path / kTensorFile);
    if (single && is_there(path / kIndexFile)) {
      throw CheckpointError(path.string() + " holds both " + kTensorFile + " and " + kIndexFile +
                            ": which one is meant can't be told; remove the other");
    }
    single || !is_there(path / kIndexFile) ? open_file(kTensorFile) : open_shards();
  });
}

void HfFolder::open_file(const std::string& name) {
  check_plain_file(path_, name, path_.string());
  files_.emplace_back(path_ / name);
  for (const auto& [tensor, info] : files_.back().tensors()) {
    if (!tensors_.emplace(tensor, info).second) {
      throw CheckpointError((path_ / name).string() + ": tensor " + in_quotes(tensor) + " is in another file, too");
    }
    file_of_[tensor] = files_.size() - 1;
  }
}

void HfFolder::open_shards() {
  const std::string where = (path_ / kIndexFile).string();
  const Json index = read_json(path_, kIndexFile, kMaxIndexBytes);
  const auto wanted = JsonKeys(index, where).texts("weight_map");  // tensor -> file
  std::set<std::string> names;
  for (const auto& [tensor, file] : wanted) names.insert(file);
  if (names.size() > kMostShards) {
    throw CheckpointError(where + " names " + std::to_string(names.size()) + " files, more than " +
                          std::to_string(kMostShards));
  }
  std::map<std::string, std::string> found;  // tensor -> file
  for (const std::string& name : names) {
    check_plain_file(path_, name, where);
    open_file(name);
    for (const auto& [tensor, info] : files_.back().tensors()) found[tensor] = name;
  }
  for (const auto& [tensor, file] : wanted) {
    const auto place = found.find(tensor);
    if (place == found.end() || place->second != file) {
      throw CheckpointError(where + " says that tensor " + in_quotes(tensor) + " is in " + in_quotes(file) +
                            ", but it is not");
    }
  }
  for (const auto& [tensor, file] : found) {
    if (!wanted.contains(tensor)) {
      throw CheckpointError((path_ / file).string() + ": tensor " + in_quotes(tensor) + " is not in the index");
    }
  }
}

torch::Tensor HfFolder::load(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) throw CheckpointError(path_.string() + ": tensor " + in_quotes(name) + " is missing");
  return files_[found->second].load(name).to(torch::kFloat32);
}

void write_hf_folder(const fs::path& path, const std::map<std::string, std::string>& small_files,
                     const std::vector<HfTensor>& tensors, uint64_t shard_bytes) {
  with_checkpoint_errors([&] {
    const fs::path target = (path / "").parent_path();  // without a slash at its end
    if (is_there(target)) throw CheckpointError(target.string() + " exists already; export writes a new folder");
    NewFolder temporary(target);
    for (const auto& [name, text] : small_files) write_file_durably(temporary.path() / name, text);
    write_tensors(temporary.path(), tensors, shard_bytes);
    temporary.commit();
  });
}

}  // namespace switchyard
