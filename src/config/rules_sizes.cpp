#include "base/text.h"
#include "config/rule_set.h"

namespace switchyard {
namespace {

// Bounds on products, so that whoever computes with a valid configuration's sizes in 64 bits is safe: bytes of the
// optimizer state are some 16 a parameter, and 2^63 is 9.2e18.
constexpr double kMostParameters = 1e15;
constexpr double kMostActivations = 1e16;
constexpr double kMostTokens = 4e18;

class SizeRules : public RuleSet {
 public:
  explicit SizeRules(const RuleSet& shared) : RuleSet(shared) {}

  void check() {
    const ModelConfig& m = c_.model;
    const auto hidden = static_cast<double>(m.hidden_size);
    const auto layers = static_cast<double>(m.num_layers);
    const double heads_width =
        m.head_dim ? static_cast<double>(*m.head_dim) * static_cast<double>(m.num_attention_heads) : hidden;
    const auto vocabulary = static_cast<double>(m.vocab_size.value_or(8192));
    const std::vector<std::string> keys = {"model",
                                           "model.hidden_size",
                                           "model.num_layers",
                                           "model.head_dim",
                                           "model.intermediate_size",
                                           "model.vocab_size",
                                           "moe",
                                           "moe.num_experts",
                                           "moe.intermediate_size",
                                           "moe.top_k",
                                           "model.num_attention_heads"};
    const double parameters =
        layers * hidden * (4 * heads_width + 3 * feed_forward_width() + 3 * experts_width(false) + router_slots()) +
        2 * vocabulary * hidden;
    require(parameters <= kMostParameters, keys,
            "describes about " + with_si_suffix(parameters) + " parameters; more than " +
                with_si_suffix(kMostParameters) + " are not supported");
    check_activations(layers * (8 * hidden + 4 * heads_width + 3 * feed_forward_width() + 3 * experts_width(true) +
                                3 * router_slots()) +
                      vocabulary);
    check_tokens();
  }

 private:
  double feed_forward_width() const {
    return static_cast<double>(c_.model.intermediate_size.value_or(3 * c_.model.hidden_size + 64));
  }
  // Widths of all experts that a token could see in one layer, or does see.
  double experts_width(bool only_active) const {
    if (!c_.moe) {
      return 0;
    }
    const auto experts =
        static_cast<double>((only_active ? c_.moe->top_k : c_.moe->num_experts) + c_.moe->num_shared_experts);
    return experts *
           (c_.moe->intermediate_size ? static_cast<double>(*c_.moe->intermediate_size) : feed_forward_width());
  }

  // Parameter vectors of one Soft MoE router, which may be many more than there are experts.
  double router_slots() const {
    if (!c_.moe || c_.moe->router.type != RouterType::kSoftMoe) return 0;
    const auto experts = static_cast<double>(c_.moe->num_experts);
    if (c_.moe->router.slots_per_expert) return experts * static_cast<double>(*c_.moe->router.slots_per_expert);
    return static_cast<double>(c_.moe->top_k) * static_cast<double>(c_.training.seq_length) + experts;
  }

  void check_activations(double values_per_token) {
    const TrainingConfig& t = c_.training;
    const double sequences = static_cast<double>(t.micro_batch_size) * static_cast<double>(t.seq_length);
    const double scores = static_cast<double>(t.seq_length) * static_cast<double>(c_.model.num_attention_heads) *
                          static_cast<double>(c_.model.num_layers);
    const double values = sequences * (values_per_token + scores);
    require(values <= kMostActivations,
            {"training.micro_batch_size", "training.seq_length", "training", "model", "model.num_layers"},
            "makes about " + with_si_suffix(values) + " activations in one forward pass; more than " +
                with_si_suffix(kMostActivations) + " are not supported");
  }

  void check_tokens() {
    const TrainingConfig& t = c_.training;
    const double tokens = static_cast<double>(t.max_steps) * static_cast<double>(t.seq_length) *
                          static_cast<double>(t.global_batch_size.value_or(t.micro_batch_size));
    require(tokens <= kMostTokens,
            {"training.max_steps", "training.seq_length", "training.global_batch_size", "training.micro_batch_size"},
            "makes a run of about " + with_si_suffix(tokens) + " tokens; more than " + with_si_suffix(kMostTokens) +
                " are not supported");
  }
};

}  // namespace

void check_size_rules(const RuleSet& rules) { SizeRules(rules).check(); }

}  // namespace switchyard
