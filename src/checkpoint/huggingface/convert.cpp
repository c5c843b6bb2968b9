#include "checkpoint/huggingface/convert.h"

#include <algorithm>
#include <set>

#include "base/progress.h"
#include "base/text.h"
#include "checkpoint/guard.h"
#include "checkpoint/huggingface/config_json.h"

namespace switchyard {
namespace {

using Problems = std::vector<std::string>;

void throw_if_any(const Problems& problems, const std::string& where) {
  if (problems.empty()) return;
  throw CheckpointError(where + " does not hold the tensors of its configuration:" + as_list(problems));
}

void check_shape(const std::string& name, torch::IntArrayRef found, const std::vector<int64_t>& wanted,
                 Problems& problems) {
  if (found != torch::IntArrayRef(wanted)) {
    problems.push_back(c10::str(in_quotes(name), " is ", found, " instead of ", torch::IntArrayRef(wanted)));
  }
}

void check_own_tensors(const TensorMapping& mapping, const TensorMap& model) {
  Problems problems;
  std::set<std::string> wanted;
  for (const ModelTensor& tensor : mapping.ours) {
    wanted.insert(tensor.name);
    const auto found = model.find(tensor.name);
    if (found == model.end()) {
      problems.push_back(in_quotes(tensor.name) + " is missing");
    } else {
      check_shape(tensor.name, found->second.sizes(), tensor.shape, problems);
    }
  }
  for (const auto& [name, tensor] : model) {
    if (!wanted.contains(name)) problems.push_back(in_quotes(name) + " is left over");
  }
  throw_if_any(problems, "the checkpoint");
}

// Constants that older folders hold beside the weights: causal masks of GPT-2, rotary frequencies. They follow from the
// configuration.
bool is_constant(const std::string& name, HfFamily family) {
  if (family == HfFamily::kGpt2) return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
  return name.ends_with(".rotary_emb.inv_freq");
}

// The names that a folder's tensors have in the mapping: GPT-2's own folder leaves out the first word.
std::string mapped_name(const std::string& name, HfFamily family) {
  const bool bare = family == HfFamily::kGpt2 && !name.starts_with("transformer.") && !name.starts_with("lm_head.");
  return bare ? "transformer." + name : name;
}

// Tensors of the mapping -> their names in the folder; all there, nothing left over, every shape right.
std::map<std::string, std::string> match_tensors(const HfFolder& folder, const TensorMapping& mapping,
                                                 const HfModelConfig& model) {
  Problems problems;
  if (!mapping.complete)
    problems.push_back("there should be more than " + std::to_string(mapping.parts.size()) + " tensors");
  std::map<std::string, std::string> found;
  for (const auto& [name, info] : folder.tensors()) {
    if (is_constant(name, model.family)) continue;
    const auto [other, is_new] = found.emplace(mapped_name(name, model.family), name);
    if (!is_new) problems.push_back(in_quotes(name) + " is the same tensor as " + in_quotes(other->second));
  }
  std::map<std::string, std::string> matched;
  for (const TensorPart& part : mapping.parts) {
    const auto tensor = found.find(part.theirs);
    if (tensor == found.end()) {
      problems.push_back(in_quotes(part.theirs) + " is missing");
      continue;
    }
    const TensorInfo& info = folder.tensors().at(tensor->second);
    check_shape(part.theirs, info.shape, part.shape, problems);
    if (!is_readable_weight(info.dtype)) {
      problems.push_back(in_quotes(part.theirs) + " has dtype " + std::string(*safetensors_dtype_name(info.dtype)) +
                         "; F32, BF16 and F16 are read");
    }
    matched.insert(found.extract(tensor));
  }
  // A tied output projection may be written out all the same; it is compared with the embedding when loaded.
  if (model.config.model.tie_word_embeddings) found.erase("lm_head.weight");
  for (const auto& [theirs, name] : found) problems.push_back(in_quotes(name) + " is left over");
  throw_if_any(problems, folder.path().string());
  return matched;
}

torch::Tensor load_finite(const HfFolder& folder, const std::string& name) {
  torch::Tensor tensor = folder.load(name);
  if (const int64_t bad = tensor.numel() - torch::isfinite(tensor).sum().item<int64_t>(); bad > 0) {
    throw CheckpointError(folder.path().string() + ": tensor " + in_quotes(name) + " holds NaN or infinity in " +
                          std::to_string(bad) + " of " + std::to_string(tensor.numel()) + " places");
  }
  return tensor;
}

void check_tied_output(const HfFolder& folder, const HfModelConfig& model, const torch::Tensor& embedding) {
  if (!model.config.model.tie_word_embeddings || !folder.tensors().contains("lm_head.weight")) return;
  if (folder.tensors().at("lm_head.weight").shape == embedding.sizes().vec() &&
      torch::equal(folder.load("lm_head.weight"), embedding)) {
    return;
  }
  throw CheckpointError(folder.path().string() +
                        ": 'lm_head.weight' differs from the embedding, but config.json says tie_word_embeddings");
}

}  // namespace

void export_hf_model(const std::filesystem::path& path, HfFamily family, const Config& config, const TensorMap& model,
                     int64_t end_of_text, std::map<std::string, std::string> small_files, uint64_t shard_bytes) {
  check_expressible(family, config);
  const TensorMapping mapping = tensor_mapping(family, config);
  check_own_tensors(mapping, model);
  small_files["config.json"] = to_hf_config(family, config, end_of_text).dump(2) + "\n";
  std::vector<HfTensor> tensors;
  for (const TensorPart& part : mapping.parts) {
    const auto values = static_cast<uint64_t>(c10::multiply_integers(part.shape));
    tensors.push_back({part.theirs, values * sizeof(float),
                       [&model, part] { return take_part(model.at(part.ours), part).to(torch::kFloat32); }});
  }
  write_hf_folder(path, small_files, tensors, shard_bytes);
}

ImportedModel import_hf_model(const std::filesystem::path& path) {
  const HfFolder folder(path);
  const HfModelConfig model = from_hf_config(folder.config(), (path / "config.json").string());
  // One more than there are would be missing already.
  const TensorMapping mapping = tensor_mapping(model.family, model.config, folder.tensors().size() + 1);
  const auto names = match_tensors(folder, mapping, model);
  ImportedModel imported{model.family, model.config, {}};
  try {
    for (const ModelTensor& tensor : mapping.ours) imported.model[tensor.name] = torch::empty(tensor.shape);
    WorkProgress progress("tensors read");
    for (size_t done = 0; const TensorPart& part : mapping.parts) {
      put_part(imported.model.at(part.ours), part, load_finite(folder, names.at(part.theirs)));
      progress.update(static_cast<int64_t>(++done), static_cast<int64_t>(mapping.parts.size()));
    }
  } catch (const c10::Error& error) {
    throw CheckpointError(path.string() + " can't be loaded: " + error.what_without_backtrace());
  }
  check_tied_output(folder, model, imported.model.at("embed_tokens"));
  return imported;
}

}  // namespace switchyard
