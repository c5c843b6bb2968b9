#include "train/run_state.h"

#include <algorithm>
#include <limits>
#include <set>

#include "base/errors.h"
#include "base/logging.h"
#include "base/text.h"
#include "config/load.h"

namespace switchyard {
namespace {

constexpr const char* kConfigFile = "config.yaml";
constexpr const char* kTokenizerFile = "tokenizer.json";

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

bool is_a(const Json& value, const int64_t* /*type*/) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  return value.is_number_unsigned() ? value.get<uint64_t>() <= kMost
                                    : value.is_number_integer() && value.get<int64_t>() >= 0;
}
bool is_a(const Json& value, const double* /*type*/) { return value.is_number(); }
bool is_a(const Json& value, const bool* /*type*/) { return value.is_boolean(); }
bool is_a(const Json& value, const std::string* /*type*/) { return value.is_string(); }

template <class T>
bool is_a(const Json& value, const std::vector<T>* /*type*/) {
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [](const Json& part) { return is_a(part, static_cast<T*>(nullptr)); });
}

// An entry of trainer.json, whose checksum says nothing about who wrote it. Counts are not negative.
template <class T>
T field(const Json& json, const char* key) {
  const std::string what = std::string("trainer.json: the entry '") + key + "' ";
  if (!json.is_object() || !json.contains(key)) throw CheckpointError(what + "is missing");
  const Json& value = json[key];
  if (!is_a(value, static_cast<T*>(nullptr))) throw CheckpointError(what + "can't be " + in_quotes(value.dump()));
  return value.get<T>();
}

}  // namespace

Checkpoint make_initial_checkpoint(TensorMap model, const Config& config, const Tokenizer& tokenizer) {
  Checkpoint checkpoint;
  checkpoint.model = std::move(model);
  checkpoint.trainer = trainer_json(RunState{}, /*optimizer_steps=*/0, "none");
  checkpoint.files = {{kConfigFile, dump_config_of_weights(config)}, {kTokenizerFile, tokenizer.serialize()}};
  return checkpoint;
}

Checkpoint make_checkpoint(const RunState& state, int64_t optimizer_steps, const Config& config,
                           const Tokenizer& tokenizer, const std::string& data_fingerprint) {
  Checkpoint checkpoint;
  checkpoint.step = state.step;
  checkpoint.trainer = trainer_json(state, optimizer_steps, data_fingerprint);
  checkpoint.files = {{kConfigFile, dump_config_of_weights(config)}, {kTokenizerFile, tokenizer.serialize()}};
  return checkpoint;
}

void load_tensors(const TensorSource& from, const std::vector<TensorPiece>& to, bool partial,
                  const std::string& where) {
  std::vector<std::string> problems;
  std::set<std::string> wanted;
  for (const TensorPiece& piece : to) {
    wanted.insert(piece.name);
    const auto found = from.tensors().find(piece.name);
    if (found == from.tensors().end()) {
      problems.push_back(in_quotes(piece.name) + " is missing");
    } else if (found->second.shape != piece.shape) {
      problems.push_back(c10::str(in_quotes(piece.name), " is ", torch::IntArrayRef(found->second.shape),
                                  " instead of ", torch::IntArrayRef(piece.shape)));
    } else {
      from.read(piece);
    }
  }
  for (const auto& [name, tensor] : from.tensors()) {
    if (!wanted.contains(name)) problems.push_back(in_quotes(name) + " is not part of this model");
  }
  if (problems.empty()) return;
  const std::string text = as_list(problems);
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
  if (state.step != checkpoint.step) {
    throw CheckpointError("trainer.json says step " + std::to_string(state.step) + ", the manifest " +
                          std::to_string(checkpoint.step));
  }
  if (state.tokens < 0) throw CheckpointError("trainer.json says " + std::to_string(state.tokens) + " tokens");
  return state;
}

std::string data_fingerprint(const Checkpoint& checkpoint) {
  return field<std::string>(checkpoint.trainer, "data_fingerprint");
}

int64_t optimizer_steps(const Checkpoint& checkpoint) { return field<int64_t>(checkpoint.trainer, "optimizer_steps"); }

Config checkpoint_config(const Checkpoint& checkpoint, const std::filesystem::path& path,
                         const std::vector<std::string>& overrides) {
  return parse_config(text_file(checkpoint, kConfigFile, path.string()), (path / kConfigFile).string(), path,
                      overrides);
}

std::unique_ptr<Tokenizer> checkpoint_tokenizer(const Checkpoint& checkpoint, const std::filesystem::path& path) {
  return deserialize_tokenizer(text_file(checkpoint, kTokenizerFile, path.string()), (path / kTokenizerFile).string());
}

std::optional<ExpertRange> experts_here(const Config& config, World& world) {
  const int64_t shares = world.experts().size();
  if (shares == 1) return std::nullopt;
  const int64_t count = config.moe->num_experts / shares;
  return ExpertRange{world.expert_share() * count, count};
}

namespace {

// A part of a parameter of this rank (whose own shape is `local`), placed in the model's whole tensor.
TensorPiece placed(std::string name, const std::string& parameter, torch::Tensor data, torch::IntArrayRef local,
                   int64_t begin, World& world) {
  TensorPiece piece{std::move(name), std::move(data), local.vec(), begin};
  const int64_t shares = world.experts().size();
  if (shares > 1 && is_expert_parameter(parameter)) {
    piece.begin += world.expert_share() * c10::multiply_integers(local);
    piece.shape[0] *= shares;
  }
  return piece;
}

TensorPiece part_of(const torch::Tensor& tensor, std::string name, const std::string& parameter,
                    torch::IntArrayRef local, const OwnedPart& part, World& world) {
  const torch::Tensor data =
      tensor.numel() == part.end - part.begin ? tensor : tensor.view(-1).narrow(0, part.begin, part.end - part.begin);
  return placed(std::move(name), parameter, data.detach(), local, part.begin, world);
}

}  // namespace

namespace {

std::vector<TensorPiece> model_pieces(Transformer& model, TrainingStep& step, World& world) {
  std::vector<TensorPiece> pieces;
  for (const TrainedParameter& parameter : step.buckets().parameters()) {
    const torch::Tensor& master = parameter.master;
    pieces.push_back(placed(parameter.name, parameter.name, master, master.sizes(), 0, world));
  }
  for (const auto& item : model->named_buffers()) {
    pieces.push_back({item.key(), item.value(), item.value().sizes().vec()});
  }
  return pieces;
}

}  // namespace

void load_weights(const TensorSource& from, Transformer& model, TrainingStep& step, World& world, bool partial,
                  const std::string& where) {
  load_tensors(from, model_pieces(model, step, world), partial, where);
  step.weights_changed();
}

std::vector<TensorPiece> optimizer_pieces(TrainingStep& step, World& world) {
  const GradientBuckets& buckets = step.buckets();
  const NamedTensors state = step.optimizer().state();  // two a parameter
  std::vector<TensorPiece> pieces;
  std::vector<bool> here(buckets.parameters().size(), false);
  for (size_t i = 0; i < state.size(); ++i) {
    const OwnedPart& part = buckets.parts()[i / 2];
    const TrainedParameter& parameter = buckets.parameters()[part.parameter];
    pieces.push_back(
        placed(state[i].first, parameter.name, state[i].second, parameter.master.sizes(), part.begin, world));
    here[part.parameter] = true;
  }
  for (size_t i = 0; i < here.size(); ++i) {
    if (here[i]) continue;
    // All of it is on other ranks.
    const auto& [parameter, in_model, whole] = buckets.parameters()[i];
    for (const std::string& name : moment_names(parameter)) {
      pieces.push_back(placed(name, parameter, torch::empty({0}, whole.options()), whole.sizes(), 0, world));
    }
  }
  return pieces;
}

CheckpointShare owned_share(Transformer& model, TrainingStep& step, World& world) {
  const GradientBuckets& buckets = step.buckets();
  const NamedTensors state = step.optimizer().state();
  const bool sharded = buckets.sharded();
  CheckpointShare share;
  for (size_t i = 0; i < buckets.owned().size(); ++i) {
    const OwnedPart& part = buckets.owned()[i];
    const auto& [name, in_model, parameter] = buckets.parameters()[part.parameter];
    share.model.push_back(part_of(parameter, name, name, parameter.sizes(), part, world));
    for (size_t k = 0; k < 2; ++k) {
      const auto& [moment_name, moment] = state[2 * (sharded ? i : part.parameter) + k];
      share.optimizer.push_back(part_of(moment, moment_name, name, parameter.sizes(), part, world));
    }
  }
  if (!world.first()) return share;
  for (const auto& item : model->named_buffers()) {
    share.model.push_back({item.key(), item.value(), item.value().sizes().vec()});
  }
  return share;
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
    const bool positions = difference.key == "training.seq_length" &&
                           before.model.position_embedding == PositionEmbedding::kLearned &&
                           after.model.position_embedding == PositionEmbedding::kLearned;
    if ((shape && !kFree.contains(difference.key)) || positions) {
      changes.push_back(difference.key + " is " + difference.before + " there and " + difference.after + " here" +
                        (positions ? ", and each position has a learned vector" : ""));
    }
  }
  return changes;
}

LoadedModel load_model(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  const std::filesystem::path folder = resolve_checkpoint(path);
  const Checkpoint checkpoint = load_checkpoint(folder, {.optimizer = false});
  LoadedModel loaded;
  loaded.folder = folder;
  loaded.step = checkpoint.step;
  loaded.config = checkpoint_config(checkpoint, folder, overrides);
  const Config own = checkpoint_config(checkpoint, folder, {});
  const auto changes = architecture_changes(own, loaded.config);
  if (!changes.empty()) throw ConfigError("the checkpoint holds another model: " + changes.front());
  if (loaded.config.data.tokenizer != own.data.tokenizer) {
    throw ConfigError("data.tokenizer can't be " + in_quotes(loaded.config.data.tokenizer) + ": " + folder.string() +
                      " has its own tokenizer, with which any data.sources are read; leave it out");
  }
  loaded.tokenizer = checkpoint_tokenizer(checkpoint, folder);
  if (!loaded.config.model.vocab_size)
    throw CheckpointError(folder.string() + "/config.yaml: model.vocab_size is missing");
  loaded.model = Transformer(loaded.config);
  load_tensors(checkpoint.model, whole_pieces(named_tensors_of(loaded.model)), /*partial=*/false,
               (folder / "model.safetensors").string());
  loaded.device = choose_device(loaded.config.training.device, 0, gpus_of_machine());
  place_model(loaded.model, loaded.config, loaded.device);
  loaded.model->eval();
  return loaded;
}

}  // namespace switchyard
