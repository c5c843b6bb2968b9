// The "post_processor" of tokenizer.json: ids put around those of a text. Private to data/.
#pragma once

#include <cstdint>
#include <vector>

#include "data/tokenizers/huggingface/json_part.h"

namespace switchyard {

struct SurroundingIds {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

// Those of a single text, in TemplateProcessing, BertProcessing, RobertaProcessing and Sequence; ByteLevel has none.
// Throws DataError, which names a part that is not known, and for an id that is not below `vocab_size`.
SurroundingIds read_surrounding_ids(const JsonPart& part, int64_t vocab_size);

}  // namespace switchyard
