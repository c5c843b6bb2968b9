#include "train/run_log.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/logging.h"
#include "base/text.h"
#include "config/load.h"
#include "config/router_keys.h"
#include "model/accounting.h"

namespace switchyard {
namespace {

// Seconds since 1970, to the millisecond.
double now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) / 1000;
}

std::vector<double> row_of(const torch::Tensor& table, int64_t row) {
  const double* values = table.const_data_ptr<double>() + row * table.size(1);
  return {values, values + table.size(1)};
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& folder, const Config& config, int64_t resume_step)
    : lines_(folder / "metrics.jsonl", resume_step), terminal_(::isatty(STDERR_FILENO) == 1) {
  if (config.metrics.tensorboard) {
    events_ = std::make_unique<EventWriter>(folder, resume_step < 0 ? std::nullopt : std::optional(resume_step + 1));
  }
  before_terminal_message([this] { progress_.clear(); });
}

RunLog::~RunLog() { before_terminal_message({}); }

void RunLog::scalar(const std::string& tag, double value, int64_t step) {
  if (events_) events_->scalar(tag, value, step);
}

void RunLog::start(int64_t step, const Config& config) {
  const ParameterCount count = count_parameters(config);
  OrderedJson line = {{"event", "start"},
                      {"step", step},
                      {"time", static_cast<int64_t>(now())},
                      {"parameters", count.total},
                      {"active_parameters", count.active},
                      {"flops_per_token", training_flops_per_token(config)},
                      {"num_layers", config.model.num_layers},
                      {"num_experts", config.moe ? config.moe->num_experts : 0},
                      {"top_k", config.moe ? config.moe->top_k : 0},
                      {"tokens_per_step", *config.training.global_batch_size * config.training.seq_length},
                      {"max_steps", config.training.max_steps}};
  if (const std::string reason = why_evaluation_looks_ahead(config); !reason.empty()) {
    line["evaluation_looks_ahead"] = reason;
  }
  lines_.write(line);
  if (events_) events_->text("config", "```yaml\n" + dump_config(config) + "```\n", step);
}

void RunLog::training(int64_t step, int64_t tokens, const StepLosses& losses, double lr, double tokens_per_second) {
  OrderedJson line = {{"event", "train"}, {"step", step}, {"time", now()}, {"tokens", tokens}};
  OrderedJson scalars = {{"loss", losses.total},
                         {"lm_loss", losses.lm},
                         {"aux_loss", 0.0},
                         {"z_loss", 0.0},
                         {"lr", lr},
                         {"grad_norm", losses.grad_norm},
                         {"tokens_per_second", tokens_per_second}};
  for (const auto& [name, value] : losses.auxiliary) scalars[name] = value;
  line.update(scalars);
  lines_.write(line);
  for (const auto& [key, value] : scalars.items()) scalar("train/" + key, value.get<double>(), step);
}

void RunLog::routing(int64_t step, const std::vector<LayerRouting>& layers) {
  for (const LayerRouting& layer : layers) {
    const RoutingStatistics& statistics = layer.statistics;
    lines_.write(routing_event(step, layer.layer, statistics));
    const std::string tag = "routing/layer_" + std::to_string(layer.layer) + "/";
    scalar(tag + "max_violation", statistics.max_violation, step);
    scalar(tag + "entropy", statistics.entropy, step);
    scalar(tag + "dead_experts", static_cast<double>(statistics.dead_experts), step);
    scalar(tag + "dropped_fraction", statistics.dropped_fraction, step);
    scalar(tag + "experts_per_token", statistics.experts_per_token, step);
    if (events_) events_->histogram(tag + "tokens_per_expert", layer.tokens_per_expert, step);
    if (statistics.logit_rms.empty()) continue;
    scalar(tag + "logit_norm", statistics.logit_norm, step);
    scalar(tag + "z", statistics.z, step);
    std::vector<double> norms = statistics.expert_output_norm;
    std::replace_if(
        norms.begin(), norms.end(), [](double norm) { return std::isnan(norm); }, 0.0);
    if (events_) events_->histogram(tag + "expert_output_norm", norms, step);
  }
}

void RunLog::alarm(int64_t step, const Collapse& collapse, const std::string& advice) {
  const std::string text = describe_collapse(collapse) + "; " + advice;
  log_warning(formatted("step %ld: routing alarm: ", step) + text);
  lines_.write(alarm_event(step, collapse, advice));
  const std::string layer = "layer_" + std::to_string(collapse.layer);
  if (events_) events_->text("alarm/" + layer + "/" + kind_name(collapse.kind), text, step);
}

void RunLog::probe(int64_t step, const std::vector<ProbedRouting>& layers, const std::vector<std::string>& domains) {
  for (const ProbedRouting& layer : layers) {
    const OrderedJson event = probe_event(step, layer, domains);
    lines_.write(event);
    const std::string tag = "routing/layer_" + std::to_string(layer.layer) + "/";
    for (const char* name : {"drift", "domain_information", "domain_share"}) {
      if (!event[name].is_null()) scalar(tag + name, event[name].get<double>(), step);
    }
  }
}

void RunLog::depth(int64_t step, const DepthTotals& totals) {
  if (totals.layers.empty()) return;
  const torch::Tensor shares = (totals.counts / static_cast<double>(totals.num_tokens)).cpu();
  for (size_t i = 0; i < totals.layers.size(); ++i) {
    const std::vector<double> row = row_of(shares, static_cast<int64_t>(i));
    const OrderedJson scalars = {
        {"passed_fraction", row[0]}, {"predicted_fraction", row[1]}, {"predictor_accuracy", row[2]}};
    OrderedJson line = {{"event", "depth"}, {"step", step}, {"layer", totals.layers[i]}};
    line.update(scalars);
    lines_.write(line);
    const std::string tag = "depth/layer_" + std::to_string(totals.layers[i]) + "/";
    for (const auto& [key, value] : scalars.items()) scalar(tag + key, value.get<double>(), step);
  }
}

void RunLog::evaluation(int64_t step, const Evaluation& evaluation) {
  OrderedJson line = {{"event", "eval"}, {"step", step}};
  line.update(evaluation_json(evaluation));
  lines_.write(line);
  for (const ModalityRouting& routing : evaluation.routing) {
    OrderedJson by_modality = {{"event", "routing_by_modality"}, {"step", step}};
    by_modality.update(modality_json(routing));
    lines_.write(by_modality);
  }
  scalar("eval/val_loss", evaluation.val_loss, step);
  scalar("eval/perplexity", std::exp(evaluation.val_loss), step);
  scalar("eval/bits_per_byte", evaluation.bits_per_byte, step);
  for (const auto& [name, loss] : evaluation.domains) scalar("eval/val_loss/" + name, loss, step);
  if (events_) events_->flush();
}

void RunLog::event(const char* name, int64_t step) {
  lines_.write({{"event", name}, {"step", step}});
  if (events_) events_->flush();
}

void RunLog::progress(const Progress& progress, bool logged_step) {
  if (terminal_ || logged_step) progress_.update(progress);
}

}  // namespace switchyard
