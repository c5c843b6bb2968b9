#include "config/rules.h"

#include <algorithm>

#include "base/text.h"
#include "config/rule_set.h"
#include "config/scalars.h"

namespace switchyard {

void RuleSet::require(bool holds, const std::vector<std::string>& keys, const std::string& what) {
  if (!holds && std::none_of(keys.begin(), keys.end(), [&](const std::string& key) { return is_bad(key); })) {
    problems_.add(place_of(keys), "key '" + keys.front() + "' " + what);
  }
}

bool RuleSet::is_bad(std::string key) const {
  for (;;) {
    if (readings_.bad.contains(key)) {
      return true;
    }
    const size_t dot = key.rfind('.');
    if (dot == std::string::npos) {
      return false;
    }
    key.resize(dot);
  }
}

Place RuleSet::place_of(const std::vector<std::string>& keys) const {
  for (const std::string& key : keys) {
    const auto found = readings_.places.find(key);
    if (found != readings_.places.end()) {
      return found->second;
    }
  }
  const auto section = readings_.places.find(keys.front().substr(0, keys.front().find('.')));
  return section != readings_.places.end() ? section->second : top_;
}

void RuleSet::check_layer_list(const std::string& key, const std::vector<int64_t>& list, const std::string& what,
                               const std::string& otherwise) {
  const int64_t layers = c_.model.num_layers;
  const auto length = static_cast<int64_t>(list.size());
  if (readings_.lists.contains(key)) {
    require(length == layers, {key, "model.num_layers"},
            "has " + number(length) + " entries for " + number(layers) + " layers (model.num_layers)");
    require(length != layers || std::count(list.begin(), list.end(), 1) > 0, {key},
            "leaves no " + what + "; " + otherwise);
    return;
  }
  require(list.front() <= layers, {key, "model.num_layers"},
          "is " + number(list.front()) + ", which leaves no " + what + " among " + number(layers) + "; " + otherwise);
}

namespace {

// 256 bytes and the control pieces are always there.
constexpr int64_t kLeastSentencePieces = 259;

class Rules : public RuleSet {
 public:
  using RuleSet::RuleSet;

  void check_all() {
    check_attention();
    check_batches();
    check_schedule();
    check_data();
    if (c_.moe) {
      check_moe_rules(*this);
    } else {
      require(c_.parallel.expert_parallel_size == 1, {"parallel.expert_parallel_size", "moe"},
              "is " + number(c_.parallel.expert_parallel_size) + ", but there are no experts without a section 'moe'");
    }
    if (c_.mixture_of_depths) {
      check_layer_list("mixture_of_depths.layer_freq", c_.mixture_of_depths->layer_freq, "layer that tokens skip",
                       "write 'mixture_of_depths: null'");
    }
    check_size_rules(*this);
  }

 private:
  void check_attention() {
    const ModelConfig& m = c_.model;
    const std::string heads = number(m.num_attention_heads);
    check_layer_list("model.sliding_window_layers", m.sliding_window_layers, "layer with a window",
                     "leave out model.sliding_window");
    if (m.latent_attention) {
      check_latent_attention(m);
      return;
    }
    if (!m.head_dim) {
      const bool divides = m.hidden_size % m.num_attention_heads == 0;
      require(divides, {"model.num_attention_heads", "model.hidden_size", "model.head_dim"},
              "is " + heads + ", which does not divide model.hidden_size " + number(m.hidden_size) +
                  "; change one of them or give model.head_dim");
      const int64_t head_dim = m.hidden_size / m.num_attention_heads;
      require(!divides || head_dim % 2 == 0, {"model.num_attention_heads", "model.hidden_size", "model.head_dim"},
              "makes heads of width " + number(head_dim) + "; the rotary embedding needs an even width");
    } else {
      require(*m.head_dim % 2 == 0, {"model.head_dim"},
              "is " + number(*m.head_dim) + "; the rotary embedding needs an even width");
    }
    if (m.num_key_value_heads) {
      require(m.num_attention_heads % *m.num_key_value_heads == 0,
              {"model.num_key_value_heads", "model.num_attention_heads"},
              "is " + number(*m.num_key_value_heads) + ", which does not divide model.num_attention_heads " + heads);
    }
  }

  void check_latent_attention(const ModelConfig& m) {
    const int64_t rotary = m.latent_attention->qk_rope_head_dim;
    const std::string key = "model.latent_attention";
    require(rotary % 2 == 0, {key + ".qk_rope_head_dim"},
            "is " + number(rotary) + "; the rotary embedding needs an even width");
    require(m.position_embedding == PositionEmbedding::kRotary, {"model.position_embedding", key},
            "is learned, but latent attention has rotary positions; leave it out");
    const int64_t width = m.latent_attention->qk_nope_head_dim + rotary;
    require(!m.head_dim || *m.head_dim == width, {"model.head_dim", key},
            "is " + number(m.head_dim.value_or(0)) + ", but with latent attention a head has qk_nope_head_dim + " +
                "qk_rope_head_dim = " + number(width) + "; leave it out");
    require(!m.num_key_value_heads || *m.num_key_value_heads == m.num_attention_heads,
            {"model.num_key_value_heads", key}, "has no meaning with latent attention: all heads share one latent");
    require(m.qk_norm == QkNorm::kNone, {"model.qk_norm", key},
            "has no meaning with latent attention, which normalises its latents");
  }

  void check_batches() {
    const TrainingConfig& t = c_.training;
    if (t.global_batch_size) {
      require(*t.global_batch_size % t.micro_batch_size == 0,
              {"training.global_batch_size", "training.micro_batch_size"},
              "is " + number(*t.global_batch_size) + ", which is not a multiple of training.micro_batch_size " +
                  number(t.micro_batch_size));
    }
  }

  void check_schedule() {
    const ScheduleConfig& s = c_.schedule;
    const int64_t steps = c_.training.max_steps;
    require(s.min_lr <= c_.optimizer.lr, {"schedule.min_lr", "optimizer.lr"},
            "is " + as_decimal(s.min_lr) + ", above optimizer.lr " + as_decimal(c_.optimizer.lr));
    // A warm-up longer than the run is no mistake: that is what shortening a run by an override makes.
    if (!s.decay_steps || s.warmup_steps >= steps || s.type == ScheduleType::kConstant) {
      return;
    }
    const std::vector<std::string> keys = {"schedule.decay_steps", "schedule.warmup_steps", "training.max_steps",
                                           "schedule.type"};
    if (s.type == ScheduleType::kWsd) {
      require(s.warmup_steps + *s.decay_steps <= steps, keys,
              "is " + number(*s.decay_steps) + "; with schedule.warmup_steps " + number(s.warmup_steps) +
                  " that is more than training.max_steps " + number(steps));
    } else {
      require(*s.decay_steps > s.warmup_steps, keys,
              "is " + number(*s.decay_steps) + "; it must be above schedule.warmup_steps, which is " +
                  number(s.warmup_steps));
    }
  }

  void check_data() {
    const std::vector<SourceConfig>& sources = c_.data.sources;
    double total_weight = 0;
    bool weights_known = true;
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string path = "data.sources." + std::to_string(i);
      total_weight += sources[i].weight;
      weights_known = weights_known && !is_bad(path + ".weight");
      check_name(i, path + ".name");
    }
    require(c_.data.tokenizer != "sentencepiece" || c_.model.vocab_size.value_or(8192) >= kLeastSentencePieces,
            {"model.vocab_size", "data.tokenizer"},
            "is " + number(c_.model.vocab_size.value_or(0)) + ", but a sentencepiece tokenizer has at least " +
                number(kLeastSentencePieces) + " pieces");
    require(sources.empty() || !weights_known || total_weight > 0, {"data.sources"},
            "has only sources of weight 0; at least one must have a weight above 0");
  }

  void check_name(size_t index, const std::string& key) {
    for (size_t before = 0; before < index; ++before) {
      if (c_.data.sources[before].name == c_.data.sources[index].name) {
        require(false, {key, "data.sources." + std::to_string(before) + ".name"},
                "is " + in_quotes(c_.data.sources[index].name) + ", the name of data.sources." +
                    std::to_string(before) + " too; names must differ");
        return;
      }
    }
  }
};

}  // namespace

void check_rules(const Config& config, const Readings& readings, const Place& top, Problems& problems) {
  Rules(config, readings, top, problems).check_all();
}

}  // namespace switchyard
