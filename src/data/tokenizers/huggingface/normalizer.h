// The "normalizer" of tokenizer.json. Private to data/.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/tokenizers/huggingface/json_part.h"

namespace switchyard {

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;

  // `at_start` says whether the text begins where the whole one does, and is taken back when its front goes.
  virtual void apply(std::string& text, bool& at_start) const = 0;
};

class Normalizer {
 public:
  Normalizer() = default;
  // Throws DataError, which names a part that is not known.
  explicit Normalizer(const JsonPart& part);

  // `text` is UTF-8. Throws DataError where it grows beyond any use.
  void apply(std::string& text, bool& at_start) const;

 private:
  std::vector<std::unique_ptr<NormalizerStep>> steps_;
};

}  // namespace switchyard
