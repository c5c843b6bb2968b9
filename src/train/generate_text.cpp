#include "base/errors.h"
#include "base/logging.h"
#include "config/router_keys.h"
#include "train/generate.h"
#include "train/run_state.h"

namespace switchyard {
namespace {

// The length of `text` without a UTF-8 character that is cut at its end.
size_t whole_characters(const std::string& text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    const size_t needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    if (byte >= 0x80 && byte < 0xc0) continue;  // a continuation: its first byte comes before
    return needed > back ? text.size() - back : text.size();
  }
  return text.size();
}

using Writer = std::function<void(std::string_view)>;

// Hands on text as it grows, character by whole character.
class Stream {
 public:
  Stream(const Tokenizer& tokenizer, const Writer& write) : tokenizer_(tokenizer), write_(write) {}
  void add(int32_t token) {
    tokens_.push_back(token);
    const std::string text = tokenizer_.decode(tokens_);
    print(text, whole_characters(text));
  }
  void finish() {
    const std::string text = tokenizer_.decode(tokens_);
    print(text, text.size());
  }

 private:
  void print(const std::string& text, size_t end) {
    if (end > printed_) write_(std::string_view(text).substr(printed_, end - printed_));
    printed_ = std::max(printed_, end);
  }

  const Tokenizer& tokenizer_;
  const Writer& write_;
  std::vector<int32_t> tokens_;
  size_t printed_ = 0;
};

// Learned positions end with those of training. The last new token is not read again, so it needs none.
void check_positions(const Config& config, int64_t prompt, int64_t length) {
  const int64_t known = config.training.seq_length;
  if (config.model.position_embedding != PositionEmbedding::kLearned || length - 1 <= known) return;
  throw ConfigError("the model has learned positions for " + std::to_string(known) + " tokens; the prompt has " +
                    std::to_string(prompt) +
                    (prompt > known
                         ? ", which is too long"
                         : ", so that --max-new-tokens can be at most " + std::to_string(known - prompt + 1)));
}

}  // namespace

void generate_text(const GenerateOptions& options, const std::function<void(std::string_view)>& write) {
  LoadedModel loaded = load_model(options.checkpoint, options.overrides);
  const std::string reason = why_not_causal(loaded.config);
  if (!reason.empty()) throw ConfigError(options.checkpoint + " can't generate: " + reason);
  set_threads(loaded.config, {});
  loaded.model->cast_matrices();
  std::vector<int32_t> prompt = loaded.tokenizer->encode(options.prompt);
  if (prompt.empty()) prompt.push_back(loaded.tokenizer->end_of_text());
  const int64_t length = static_cast<int64_t>(prompt.size()) + options.sampling.max_new_tokens;
  check_positions(loaded.config, static_cast<int64_t>(prompt.size()), length);
  if (length > loaded.config.training.seq_length) {
    log_warning("prompt and new text have up to " + std::to_string(length) + " tokens, the model was trained on " +
                std::to_string(loaded.config.training.seq_length) + ": quality falls off beyond that");
  }
  write(options.prompt);
  Stream stream(*loaded.tokenizer, write);
  const Tokenizer& tokenizer = *loaded.tokenizer;
  generate(loaded.model, prompt, tokenizer.end_of_text(), tokenizer.vocab_size(), options.sampling, [&](int32_t token) {
    stream.add(token);
    return true;
  });
  stream.finish();
}

}  // namespace switchyard
