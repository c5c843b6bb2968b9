// Safetensors, manifests of checkpoints, and the JSON files of Hugging Face folders.
#include <algorithm>

#include "base/errors.h"
#include "base/json.h"
#include "checkpoint/huggingface/config_json.h"
#include "checkpoint/huggingface/json_keys.h"
#include "checkpoint/manifest.h"
#include "checkpoint/safetensors_header.h"
#include "config/load.h"
#include "config/presets.h"
#include "tests/fuzz/target.h"
#include "tests/support/safetensors_bytes.h"

namespace switchyard::fuzz {
namespace {

// "BF16" has 16 bits.
uint64_t bytes_of_value(c10::ScalarType type) {
  const std::string name(*safetensors_dtype_name(type));
  return name == "BOOL" ? 1 : std::stoul(name.substr(name.find_first_of("0123456789"))) / 8;
}

uint64_t bytes_of(const TensorInfo& info, uint64_t most) {
  if (std::find(info.shape.begin(), info.shape.end(), 0) != info.shape.end()) return 0;
  uint64_t bytes = bytes_of_value(info.dtype);
  for (const int64_t size : info.shape) {
    require(size >= 0 && static_cast<uint64_t>(size) <= most / bytes, "a tensor's values fit into its file");
    bytes *= static_cast<uint64_t>(size);
  }
  return bytes;
}

void check_safetensors(std::string_view file) {
  SafetensorsHeader header;
  if (!accepts<CheckpointError>([&] { header = parse_safetensors_header(std::as_bytes(std::span(file)), "input"); })) {
    return;
  }
  uint64_t covered = header.data_offset;
  for (const auto& [name, info] : header.tensors) {
    require(info.begin <= info.end && info.end <= file.size() - header.data_offset, "a tensor lies inside its file");
    require(bytes_of(info, file.size()) == info.end - info.begin, "a tensor has as many bytes as its shape says");
    covered += info.end - info.begin;
  }
  require(covered == file.size(), "the tensors fill the file");
}

// The input as a file, and as a header in front of as many bytes of data as its end says.
void run_safetensors(std::string_view input) {
  check_safetensors(input);
  const size_t data_size = take_number(input);
  check_safetensors(test::safetensors_bytes(input, data_size));
}

std::vector<std::string> safetensors_seeds() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},"c":{"dtype":"BOOL","shape":[0,7],"data_offsets":[26,26]}})";
  return {header + std::string("\x1a\0", 2), test::safetensors_bytes(header, 26)};
}

void check_manifest(std::string_view text) {
  Manifest manifest;
  if (!accepts<CheckpointError>([&] { manifest = parse_manifest(text, "input"); })) return;
  require(manifest.step >= 0 && manifest.files.contains(kTrainerFile), "a checkpoint has a step and its trainer");
  for (const auto& [name, digest] : manifest.files) require(is_plain_file_name(name), "files are in the folder itself");
  for (const char* file : {kModelFile, kOptimizerFile}) {
    const std::vector<std::string> parts = part_files(manifest.files, file, "input");
    require(!parts.empty(), "a checkpoint has a model and an optimizer");
    for (const std::string& part : parts) require(manifest.files.contains(part), "every part is listed");
  }
  const Manifest again = parse_manifest(manifest_text(manifest), "written");
  require(manifest_text(again) == manifest_text(manifest), "a written manifest is read as it was");
}

// The input, and the same with a checksum that fits.
void run_manifest(std::string_view input) {
  check_manifest(input);
  Json json;
  if (!accepts<Error>([&] { json = parse_json(input, "input"); }) || !json.is_object()) return;
  json.erase("xxh3_128");
  json["xxh3_128"] = checksum(json.dump());
  check_manifest(json.dump());
}

std::vector<std::string> manifest_seeds() {
  Manifest whole{7, {{kTrainerFile, {12, "0f"}}, {kModelFile, {8, "f0"}}, {kOptimizerFile, {9, "ff"}}}};
  Manifest parts{8, {{kTrainerFile, {12, "0f"}}, {kOptimizerFile, {9, "ff"}}, {"config.yaml", {1, "00"}}}};
  for (const int rank : {0, 1}) parts.files[part_file(kModelFile, rank, 2)] = {4, "aa"};
  return {manifest_text(whole), manifest_text(parts)};
}

void run_hf_config(std::string_view input) {
  Json json;
  if (!accepts<Error>([&] { json = parse_json(input, "input"); })) return;
  std::optional<HfModelConfig> model;
  if (!accepts<CheckpointError>([&] { model = from_hf_config(json, "input"); })) return;
  const Json written(to_hf_config(model->family, model->config, 0));
  const HfModelConfig again = from_hf_config(written, "written");
  require(again.family == model->family, "a written config.json is of the same family");
  for (const ConfigDifference& difference : compare_configs(model->config, again.config)) {
    // The weight of a loss is written as transformers counts it, and rounded.
    require(difference.key.starts_with("moe.aux_loss"), "a written config.json is read as it was");
  }
}

std::vector<std::string> hf_config_seeds() {
  std::vector<std::string> seeds;
  for (const Preset& preset : list_presets()) {
    accepts<ConfigError>([&] {
      Config config = load_config(preset.path);
      config.model.vocab_size = 1000;
      const HfFamily family = nearest_hf_family(config);
      check_expressible(family, config);
      seeds.push_back(to_hf_config(family, config, 0).dump());
    });
  }
  return seeds;
}

void run_hf_index(std::string_view input) {
  Json json;
  if (!accepts<Error>([&] { json = parse_json(input, "input"); })) return;
  std::map<std::string, std::string> files;
  if (!accepts<CheckpointError>([&] { files = JsonKeys(json, "input").texts("weight_map"); })) return;
  require(files.size() == json["weight_map"].size(), "every tensor has its file");
}

std::vector<std::string> hf_index_seeds() {
  return {
      R"({"metadata": {"total_size": 8}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors", "b": "c"}})"};
}

}  // namespace

std::vector<Target> checkpoint_targets() {
  return {{"safetensors", run_safetensors, safetensors_seeds},
          {"manifest", run_manifest, manifest_seeds},
          {"hf_config", run_hf_config, hf_config_seeds},
          {"hf_index", run_hf_index, hf_index_seeds}};
}

}  // namespace switchyard::fuzz
