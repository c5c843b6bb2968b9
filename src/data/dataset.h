// A prepared data section: one tokenizer, and per domain a training and a validation shard.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/token_shard.h"
#include "data/tokenizer.h"

namespace switchyard {

struct Domain {
  std::string name;
  double weight = 1.0;  // normalised: all domains' weights sum to one
  std::string modality = "text";
  TokenShard train;
  TokenShard validation;
};

struct Dataset {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<Domain> domains;
  // XXH3-128 over tokenizer, domain names and shard checksums. Equal fingerprints mean equal tokens.
  std::string fingerprint;
};

// Opens the prepared shards of `config.data` in its cache_dir, making them (tokenizer trained, texts tokenised, split
// by document) when they are missing or an input changed. Says on the log what it does. Throws DataError.
Dataset open_dataset(const Config& config);
// The same with the tokenizer of a model that exists, whatever data.tokenizer says.
Dataset open_dataset(const Config& config, const Tokenizer& tokenizer);

// The vocabulary of `config`, as far as it is known without reading texts: model.vocab_size, or that of the tokenizer
// if it is `byte`, trained to a size or in cache_dir already; otherwise nothing.
std::optional<int64_t> known_vocab_size(const Config& config);
// Fills model.vocab_size with that; whether it had to be assumed, since it is not known.
bool assume_vocabulary(Config& config);

}  // namespace switchyard
