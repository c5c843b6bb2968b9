// What a checkpoint's model computes, for comparison with other programs that read the same weights.
//
// usage: probe_model CHECKPOINT TOKENS OUT [key=value ...]
//   TOKENS  safetensors with "tokens" [B, S + 1] int64: inputs are the first S of each sequence, targets the last S
//   OUT     safetensors: "logits" [B, S, V]; "lm_loss", "aux_loss" (sum over layers) and "loss" = lm_loss +
//           moe.aux_loss_coeff * aux_loss (the overrides may set it); and the gradients of "loss", named and laid out
//           as `switchyard export` writes their parameters, behind "gradient."
// In evaluation mode: no dropout, no noise.
#include <cstdio>

#include "base/logging.h"
#include "checkpoint/huggingface/mapping.h"
#include "losses/auxiliary.h"
#include "train/run_state.h"

namespace {

using namespace switchyard;
using torch::Tensor;

struct Losses {
  Tensor lm;
  Tensor aux;
  Tensor total;
};

Losses losses_of(Transformer& model, const ModelOutput& output, const Tensor& targets, int64_t sequences) {
  Losses losses;
  losses.lm = model->language_model_loss(output, targets);
  losses.aux = torch::zeros_like(losses.lm);
  losses.total = losses.lm;
  if (output.routers.empty()) return losses;
  for (const NamedLoss& loss : auxiliary_losses(output.routers, *model->config().moe, sequences, Tensor())) {
    if (loss.name != "aux_loss") continue;
    losses.aux = loss.value;
    losses.total = losses.total + loss.coefficient * loss.value;
  }
  return losses;
}

void add_gradients(Transformer& model, TensorMap& found) {
  std::map<std::string, Tensor> gradients;
  for (const auto& item : model->named_parameters()) {
    const Tensor& gradient = item.value().grad();
    gradients[item.key()] = gradient.defined() ? gradient : torch::zeros_like(item.value());
  }
  const HfFamily family = nearest_hf_family(model->config());
  for (const TensorPart& part : tensor_mapping(family, model->config()).parts) {
    if (!gradients.contains(part.ours)) continue;  // a buffer
    found["gradient." + part.theirs] = take_part(gradients.at(part.ours), part).contiguous();
  }
}

void run(int argc, char** argv) {
  LoadedModel loaded = load_model(argv[1], std::vector<std::string>(argv + 4, argv + argc));
  Transformer& model = loaded.model;
  const Tensor tokens = SafetensorsFile(argv[2]).load("tokens");
  const int64_t length = tokens.size(1) - 1;
  const ModelOutput output = model->forward(tokens.narrow(1, 0, length));
  const Losses losses = losses_of(model, output, tokens.narrow(1, 1, length).flatten(), tokens.size(0));
  TensorMap found = {{"logits", model->logits(output.hidden).detach().view({tokens.size(0), length, -1})},
                     {"lm_loss", losses.lm.detach()},
                     {"aux_loss", losses.aux.detach()},
                     {"loss", losses.total.detach()}};
  losses.total.backward();
  add_gradients(model, found);
  write_safetensors(argv[3], found);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: probe_model CHECKPOINT TOKENS OUT [key=value ...]\n");
    return 2;
  }
  switchyard::start_logging();
  try {
    run(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "probe_model: %s\n", error.what());
    return 1;
  }
}
