// Made-up run folders that look like real ones: losses that fall, domains, balanced or collapsing experts, a resume.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/random.h"
#include "metrics/collapse_alarm.h"
#include "metrics/jsonl.h"
#include "metrics/routing_statistics.h"
#include "tests/support/temporary_folder.h"

namespace switchyard::test {

struct SampleRun {
  std::string name;
  int64_t steps = 2000;
  int64_t log_interval = 10;
  int64_t layers = 4;  // 0: dense
  int64_t experts = 8;
  double imbalance = 0.2;  // how far apart the experts drift
  uint64_t seed = 1;
};

// Uniform in [-1, 1), a pure function of its arguments.
inline double sample_noise(const SampleRun& run, int64_t a, int64_t b, int64_t c) {
  const uint64_t word = random_word(run.seed, RandomPurpose::kSampling,
                                    {static_cast<uint64_t>(a), static_cast<uint64_t>(b), static_cast<uint64_t>(c)});
  return static_cast<double>(word >> 11) * 0x1p-52 - 1.0;
}

inline double sample_loss(const SampleRun& run, int64_t step) {
  return 2.1 + 0.05 * run.imbalance + 6.2 * std::exp(-std::pow(static_cast<double>(step) / 180.0, 0.6));
}

inline RoutingStatistics sample_routing(const SampleRun& run, int64_t step, int64_t layer) {
  std::vector<double> counts, sums;
  std::vector<int64_t> unused;
  const double progress = static_cast<double>(step) / static_cast<double>(run.steps);
  for (int64_t expert = 0; expert < run.experts; ++expert) {
    const double drift = 3 * sample_noise(run, layer, expert, -1) * progress +
                         2 * sample_noise(run, layer, expert, -2) * std::exp(-12 * progress);
    const double weight = std::exp(run.imbalance * (1 + 0.3 * static_cast<double>(layer)) * drift +
                                   0.06 * sample_noise(run, layer, expert, step));
    counts.push_back(std::round(1000 * weight));
    unused.push_back(counts.back() < 20 ? 500 : 0);
  }
  double total = 0;
  for (const double count : counts) total += count;
  for (const double count : counts) sums.push_back(count / total * 4096);
  const double token_entropy = 0.9 - 0.5 * progress + 0.02 * sample_noise(run, layer, 0, step);
  return routing_statistics(counts, sums, token_entropy * std::log(static_cast<double>(run.experts)) * 4096, 4096, 0,
                            unused, 100);
}

inline OrderedJson sample_train_line(const SampleRun& run, int64_t step) {
  const double lm_loss = sample_loss(run, step) + 0.09 * sample_noise(run, step, 0, -5);
  const double warm_up = std::min(1.0, static_cast<double>(step) / 100.0);
  const double decay = 0.55 + 0.45 * std::cos(3.14159 * static_cast<double>(step) / static_cast<double>(run.steps));
  OrderedJson line = {
      {"event", "train"}, {"step", step}, {"tokens", step * 4096}, {"loss", lm_loss + 0.01}, {"lm_loss", lm_loss}};
  if (run.layers > 0) {
    line["aux_loss"] = 1 + 0.3 * run.imbalance * run.imbalance + 0.5 * std::exp(-static_cast<double>(step) / 150.0) +
                       0.01 * sample_noise(run, step, 1, -5);
    line["z_loss"] = 1.2 + 6 * std::exp(-static_cast<double>(step) / 300.0) + 0.1 * sample_noise(run, step, 2, -5);
  }
  line["lr"] = 1e-3 * warm_up * decay;
  line["grad_norm"] =
      0.6 + 2 * std::exp(-static_cast<double>(step) / 100.0) + 0.15 * std::exp(2 * sample_noise(run, step, 3, -5));
  line["tokens_per_second"] = 8400 + 300 * sample_noise(run, step, 4, -5);
  return line;
}

inline OrderedJson sample_eval_line(const SampleRun& run, int64_t step) {
  const double loss = sample_loss(run, step) + 0.06;
  OrderedJson domains;
  const std::vector<std::pair<std::string, double>> offsets = {{"cpp", -0.42}, {"prose", 0.51}, {"python", -0.1}};
  for (const auto& [name, offset] : offsets) {
    domains[name] = {{"val_loss", loss + offset}, {"perplexity", std::exp(loss + offset)}};
  }
  return {{"event", "eval"}, {"step", step}, {"val_loss", loss}, {"perplexity", std::exp(loss)}, {"domains", domains}};
}

inline OrderedJson sample_probe_line(const SampleRun& run, int64_t step, int64_t layer) {
  const double progress = static_cast<double>(step) / static_cast<double>(run.steps);
  OrderedJson line = {{"event", "routing_eval"}, {"step", step}, {"layer", layer}, {"drift", nullptr}};
  if (step > run.steps / 10) line["drift"] = 0.9 - 0.6 * progress + 0.05 * sample_noise(run, step, layer, -6);
  line["domain_information"] = 0.2 * progress + 0.01 * sample_noise(run, step, layer, -7);
  line["domain_share"] = line["domain_information"].get<double>() / std::log(3.0);
  return line;
}

inline OrderedJson sample_alarm_line(int64_t step) {
  return alarm_event(step, {CollapseKind::kLoad, 2, {5}, 0.75, 0.625},
                     "set moe.aux_loss_coeff=0.01 (now 0), or set moe.router.expert_bias=true");
}

// Writes `root`/name with config.yaml and metrics.jsonl; returns the folder. The file is written at once, since a
// hundred thousand lines flushed one by one take their time.
inline std::filesystem::path write_sample_run(const std::filesystem::path& root, const SampleRun& run) {
  const std::filesystem::path folder = root / run.name;
  std::filesystem::create_directories(folder);
  spill(folder / "config.yaml",
        std::string("run: {dir: runs/") + run.name + ", seed: " + std::to_string(run.seed) + "}\n");
  std::string text;
  const auto add = [&](const OrderedJson& line) { text += line.dump() + "\n"; };
  add({{"event", "start"},
       {"step", 0},
       {"time", 1760000000},
       {"parameters", 22600000},
       {"active_parameters", 14700000},
       {"num_layers", 4},
       {"num_experts", run.layers > 0 ? run.experts : 0},
       {"top_k", 2},
       {"precision", "bf16"}});
  for (int64_t step = run.log_interval; step <= run.steps; step += run.log_interval) {
    add(sample_train_line(run, step));
    for (int64_t layer = 0; layer < run.layers; ++layer)
      add(routing_event(step, layer, sample_routing(run, step, layer)));
    if (step % (run.steps / 10) == 0) {
      add(sample_eval_line(run, step));
      for (int64_t layer = 0; layer < run.layers; ++layer) add(sample_probe_line(run, step, layer));
    }
    if (run.imbalance >= 1 && run.layers > 0 && step == run.steps / 5) add(sample_alarm_line(step));
    if (step == run.steps / 2) {
      add({{"event", "stopped"}, {"step", step}});
      add({{"event", "start"}, {"step", step}, {"time", 1760003600}});
    }
  }
  add({{"event", "end"}, {"step", run.steps}});
  spill(folder / "metrics.jsonl", text);
  return folder;
}

}  // namespace switchyard::test
