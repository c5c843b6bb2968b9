#include "train/run_state.h"

#include <set>

#include "base/errors.h"
#include "base/logging.h"
#include "config/load.h"

namespace switchyard {
namespace {

constexpr const char* kConfigFile = "config.yaml";
constexpr const char* kTokenizerFile = "tokenizer.json";

TensorMap to_host(const NamedTensors& tensors) {
  TensorMap map;
  for (const auto& [name, tensor] : tensors) map[name] = tensor.detach().cpu();
  return map;
}

const std::string& text_file(const Checkpoint& checkpoint, const std::string& name, const std::string& where) {
  const auto found = checkpoint.files.find(name);
  if (found == checkpoint.files.end()) throw CheckpointError(where + " holds no " + name);
  return found->second;
}

Json trainer_json(const RunState& state, int64_t optimizer_steps, const std::string& data_fingerprint) {
  return {{"step", state.step},
          {"tokens", state.tokens},
          {"optimizer_steps", optimizer_steps},
          {"evaluation_due", state.evaluation_due},
          {"spike_window", state.spike_window},
          {"steps_since_used", state.steps_since_used},
          {"data_fingerprint", data_fingerprint}};
}

template <class T>
T field(const Json& json, const char* key) {
  try {
    return json.at(key).get<T>();
  } catch (const Json::exception& error) {
    throw CheckpointError(std::string("trainer.json: the entry '") + key + "' is missing or of a wrong type (" +
                          error.what() + ")");
  }
}

}  // namespace

Checkpoint make_initial_checkpoint(TensorMap model, const Config& config, const Tokenizer& tokenizer) {
  Checkpoint checkpoint;
  checkpoint.model = std::move(model);
  checkpoint.trainer = trainer_json(RunState{}, /*optimizer_steps=*/0, "none");
  checkpoint.files = {{kConfigFile, dump_config(config)}, {kTokenizerFile, tokenizer.serialize()}};
  return checkpoint;
}

Checkpoint make_checkpoint(const RunState& state, const NamedTensors& parameters, const AdamW& optimizer,
                           const Config& config, const Tokenizer& tokenizer, const std::string& data_fingerprint) {
  Checkpoint checkpoint;
  checkpoint.step = state.step;
  checkpoint.model = to_host(parameters);
  checkpoint.optimizer = to_host(optimizer.state());
  checkpoint.trainer = trainer_json(state, optimizer.steps(), data_fingerprint);
  checkpoint.files = {{kConfigFile, dump_config(config)}, {kTokenizerFile, tokenizer.serialize()}};
  return checkpoint;
}

void load_tensors(const TensorMap& from, const NamedTensors& to, bool partial, const std::string& where) {
  const torch::NoGradGuard no_grad;
  std::vector<std::string> problems;
  std::set<std::string> wanted;
  for (const auto& [name, target] : to) {
    wanted.insert(name);
    const auto found = from.find(name);
    if (found == from.end()) {
      problems.push_back(name + " is missing");
    } else if (found->second.sizes() != target.sizes()) {
      problems.push_back(c10::str(name, " is ", found->second.sizes(), " instead of ", target.sizes()));
    } else {
      torch::Tensor into = target;
      into.copy_(found->second);
    }
  }
  for (const auto& [name, tensor] : from) {
    if (!wanted.contains(name)) problems.push_back(name + " is not part of this model");
  }
  if (problems.empty()) return;
  std::string text;
  for (const std::string& problem : problems) text += "\n  " + problem;
  if (!partial) throw CheckpointError(where + " does not fit this model:" + text);
  log_warning(where + " does not fit this model; what fits was taken, except:" + text);
}

RunState restore_state(const Checkpoint& checkpoint) {
  const Json& trainer = checkpoint.trainer;
  RunState state;
  state.step = field<int64_t>(trainer, "step");
  state.tokens = field<int64_t>(trainer, "tokens");
  state.evaluation_due = field<bool>(trainer, "evaluation_due");
  state.spike_window = field<std::vector<double>>(trainer, "spike_window");
  state.steps_since_used = field<std::vector<std::vector<int64_t>>>(trainer, "steps_since_used");
  if (state.step != checkpoint.step || state.step < 0) {
    throw CheckpointError("trainer.json says step " + std::to_string(state.step) + ", the manifest " +
                          std::to_string(checkpoint.step));
  }
  return state;
}

void restore_optimizer(const Checkpoint& checkpoint, AdamW& optimizer, bool partial) {
  load_tensors(checkpoint.optimizer, optimizer.state(), partial, "optimizer.safetensors");
  optimizer.set_steps(field<int64_t>(checkpoint.trainer, "optimizer_steps"));
}

Config checkpoint_config(const Checkpoint& checkpoint, const std::filesystem::path& path,
                         const std::vector<std::string>& overrides) {
  return parse_config(text_file(checkpoint, kConfigFile, path.string()), (path / kConfigFile).string(), path,
                      overrides);
}

std::unique_ptr<Tokenizer> checkpoint_tokenizer(const Checkpoint& checkpoint, const std::filesystem::path& path) {
  return deserialize_tokenizer(text_file(checkpoint, kTokenizerFile, path.string()), (path / kTokenizerFile).string());
}

std::vector<std::string> architecture_changes(const Config& before, const Config& after) {
  static const std::set<std::string> kFree = {"model.dropout",
                                              "model.init_std",
                                              "moe.router.jitter",
                                              "moe.router.init_scale",
                                              "moe.router.bias_rate",
                                              "moe.router.second_expert",
                                              "moe.router.importance_coeff",
                                              "moe.router.load_coeff",
                                              "moe.router.choice_scope",
                                              "moe.router.causal_form",
                                              "moe.router.budget_coeff",
                                              "moe.router.threshold_rate",
                                              "moe.router.momentum",
                                              "moe.aux_loss_coeff",
                                              "moe.aux_loss_scope",
                                              "moe.aux_loss_layers",
                                              "moe.aux_loss_choices",
                                              "moe.aux_loss_probabilities",
                                              "moe.z_loss_coeff",
                                              "moe.capacity_factor",
                                              "moe.eval_capacity_factor",
                                              "moe.drop_policy",
                                              "mixture_of_depths.predictor_coeff"};
  std::vector<std::string> changes;
  for (const ConfigDifference& difference : compare_configs(before, after)) {
    const bool shape = difference.key.starts_with("model.") || difference.key.starts_with("moe") ||
                       difference.key.starts_with("mixture_of_depths");
    if (shape && !kFree.contains(difference.key)) {
      changes.push_back(difference.key + " is " + difference.before + " there and " + difference.after + " here");
    }
  }
  return changes;
}

LoadedModel load_model(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  const std::filesystem::path folder = resolve_checkpoint(path);
  const Checkpoint checkpoint = load_checkpoint(folder, {.optimizer = false});
  LoadedModel loaded;
  loaded.step = checkpoint.step;
  loaded.config = checkpoint_config(checkpoint, folder, overrides);
  const auto changes = architecture_changes(checkpoint_config(checkpoint, folder, {}), loaded.config);
  if (!changes.empty()) throw ConfigError("the checkpoint holds another model: " + changes.front());
  loaded.tokenizer = checkpoint_tokenizer(checkpoint, folder);
  if (!loaded.config.model.vocab_size)
    throw CheckpointError(folder.string() + "/config.yaml: model.vocab_size is missing");
  loaded.model = Transformer(loaded.config);
  load_tensors(checkpoint.model, named_tensors_of(loaded.model), /*partial=*/false,
               (folder / "model.safetensors").string());
  place_model(loaded.model, loaded.config, choose_device(loaded.config));
  loaded.model->eval();
  return loaded;
}

}  // namespace switchyard
