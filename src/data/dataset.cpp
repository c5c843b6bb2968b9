#include "data/dataset.h"

#include <spdlog/spdlog.h>

#include <cmath>
#include <functional>
#include <optional>
#include <set>

#include "base/errors.h"
#include "base/files.h"
#include "base/json.h"
#include "base/new_folder.h"
#include "base/text.h"
#include "config/texts.h"
#include "data/cache.h"
#include "data/guard.h"
#include "data/prepare.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

void check_sources(const std::vector<SourceConfig>& sources) {
  if (sources.empty()) {
    throw DataError(
        "data.sources is empty: give at least one text source, for example "
        "data: {sources: [{name: books, files: [\"texts/*.txt\"]}]}");
  }
  std::set<std::string> names;
  double total = 0;
  for (const SourceConfig& source : sources) {
    const std::string where = "source '" + source.name + "'";
    if (const std::string what = name_problem(source.name); !what.empty()) {
      throw DataError("the name of a source " + what);
    }
    if (!names.insert(source.name).second) throw DataError(where + " is named twice in data.sources");
    if (source.files.empty()) throw DataError(where + " names no files");
    if (!std::isfinite(source.weight) || source.weight < 0) {
      throw DataError(where + " has weight " + std::to_string(source.weight) + ", it must be at least 0 and finite");
    }
    total += source.weight;
  }
  if (!(total > 0) || !std::isfinite(total)) {
    throw DataError("the weights of data.sources add up to " + std::to_string(total) + ", it must be above 0");
  }
}

const std::string& checksum_of(const CacheManifest& manifest, const std::string& file) {
  for (const auto& [name, sum] : manifest.files) {
    if (name == file) return sum;
  }
  throw DataError("the manifest does not name " + file);
}

TokenShard open_shard(const fs::path& folder, const std::string& file, const CacheManifest& manifest,
                      const std::string& domain, int64_t vocab_size) {
  TokenShard shard = TokenShard::open(folder / file);
  if (shard.content_checksum() != checksum_of(manifest, file) || shard.domain() != domain ||
      shard.vocab_size() != vocab_size) {
    throw DataError((folder / file).string() + " is not the shard that its manifest speaks of");
  }
  return shard;
}

std::string fingerprint_of(const std::string& tokenizer, const std::vector<Domain>& domains) {
  Json parts = Json::array({checksum(tokenizer)});
  for (const Domain& domain : domains) {
    parts.push_back({domain.name, domain.train.content_checksum(), domain.validation.content_checksum()});
  }
  return checksum(parts.dump());
}

Dataset open_folder(const Config& config, const fs::path& folder, const CacheManifest& manifest) {
  Dataset dataset;
  const std::string path = (folder / kTokenizerFile).string();
  const std::string serialized = read_file(path);
  if (checksum(serialized) != checksum_of(manifest, kTokenizerFile)) throw DataError(path + " has a wrong checksum");
  dataset.tokenizer = deserialize_tokenizer(serialized, path);
  const int64_t vocab_size = dataset.tokenizer->vocab_size();
  double total = 0;
  for (const SourceConfig& source : config.data.sources) total += source.weight;
  for (const SourceConfig& source : config.data.sources) {
    dataset.domains.push_back(
        {.name = source.name,
         .weight = source.weight / total,
         .modality = source.modality,
         .train = open_shard(folder, train_file(source.name), manifest, source.name, vocab_size),
         .validation = open_shard(folder, validation_file(source.name), manifest, source.name, vocab_size)});
  }
  dataset.fingerprint = fingerprint_of(serialized, dataset.domains);
  return dataset;
}

// Spares the next start reading the sources. On a read-only disk, or in another user's folder, it reads them again.
void note_touched(const fs::path& folder, const CacheManifest& manifest) {
  try {
    write_cache_manifest(folder, manifest);
  } catch (const Error& error) {
    spdlog::info("data: {}", error.what());
  }
}

// The dataset in `folder` if it is whole and made from `inputs`.
std::optional<Dataset> open_if_fresh(const Config& config, const fs::path& folder, std::vector<InputFile> inputs) {
  if (!fs::exists(folder)) return std::nullopt;
  try {
    CacheManifest manifest = read_cache_manifest(folder);
    const Freshness freshness = compare_inputs(manifest.inputs, inputs);
    if (freshness == Freshness::kStale) {
      spdlog::info("data: a source has changed since {} was made", folder.string());
      return std::nullopt;
    }
    Dataset dataset = open_folder(config, folder, manifest);
    manifest.inputs = std::move(inputs);
    if (freshness == Freshness::kTouched) note_touched(folder, manifest);
    return dataset;
  } catch (const Error& error) {
    spdlog::warn("data: {} must be made again: {}", folder.string(), error.what());
    return std::nullopt;
  }
}

Dataset open_or_prepare(const Config& config, const Tokenizer* given) {
  check_sources(config.data.sources);
  const fs::path cache_dir = config.data.cache_dir;
  const std::string key = cache_key(config);
  const fs::path folder = cache_dir / key;
  const std::vector<InputFile> inputs = find_inputs(config.data);
  std::string why_not_locked;
  const auto lock = lock_cache(cache_dir, key, why_not_locked);
  if (lock) remove_leftovers(cache_dir);
  if (std::optional<Dataset> dataset = open_if_fresh(config, folder, inputs)) {
    spdlog::info("data: using {}", folder.string());
    return std::move(*dataset);
  }
  if (!lock) {
    throw DataError("the token shards of these sources are not in " + cache_dir.string() +
                    " (or out of date), and cannot be made there: " + why_not_locked +
                    "; name a folder that can be written with data.cache_dir");
  }
  spdlog::info("data: preparing {} from {} files", folder.string(),
               with_thousands(static_cast<int64_t>(inputs.size())));
  NewFolder temporary(folder);
  prepare_folder(config, inputs, temporary.path(), given);
  temporary.replace();
  return open_folder(config, folder, read_cache_manifest(folder));
}

// Shards of data.tokenizer, where they are there and it is `wanted`: a model that goes on with the texts that it was
// trained on.
std::optional<Dataset> open_own(const Config& config, const std::string& wanted) {
  const fs::path folder = fs::path(config.data.cache_dir) / cache_key(config);
  try {
    if (checksum(read_file(folder / kTokenizerFile)) != checksum(wanted)) return std::nullopt;
    return open_if_fresh(config, folder, find_inputs(config.data));
  } catch (const Error&) {  // not there, or without the file of data.tokenizer
    return std::nullopt;
  }
}

Dataset open_with(const Config& requested, const Tokenizer& tokenizer) {
  check_sources(requested.data.sources);
  const std::string wanted = tokenizer.serialize();
  Config config = requested;
  if (wanted == make_byte_tokenizer()->serialize()) {
    config.data.tokenizer = "byte";
    return open_or_prepare(config, nullptr);
  }
  if (std::optional<Dataset> own = open_own(config, wanted)) {
    spdlog::info("data: using {}", (fs::path(config.data.cache_dir) / cache_key(config)).string());
    return std::move(*own);
  }
  config.data.tokenizer = "given:" + checksum(wanted);  // names the folder
  return open_or_prepare(config, &tokenizer);
}

void check_vocab_size(const Config& config, int64_t tokenizer_vocab_size) {
  if (!config.model.vocab_size || *config.model.vocab_size >= tokenizer_vocab_size) return;
  throw DataError("model.vocab_size is " + std::to_string(*config.model.vocab_size) + ", but the tokenizer '" +
                  config.data.tokenizer + "' has " + std::to_string(tokenizer_vocab_size) +
                  " tokens: raise model.vocab_size to at least that, or leave it out");
}

// What `open` returns, or a DataError.
Dataset opened(const Config& config, const std::function<Dataset()>& open) {
  try {
    Dataset dataset = with_data_errors(open);
    check_vocab_size(config, dataset.tokenizer->vocab_size());
    return dataset;
  } catch (const fs::filesystem_error& error) {
    throw DataError(std::string("cannot prepare the data: ") + error.what());
  } catch (const Json::exception& error) {
    throw DataError(std::string("a name in the data section is not UTF-8: ") + error.what());
  }
}

}  // namespace

Dataset open_dataset(const Config& config) {
  return opened(config, [&] { return open_or_prepare(config, nullptr); });
}

Dataset open_dataset(const Config& config, const Tokenizer& tokenizer) {
  return opened(config, [&] { return open_with(config, tokenizer); });
}

std::optional<int64_t> known_vocab_size(const Config& config) {
  if (config.model.vocab_size) return *config.model.vocab_size;
  if (config.data.tokenizer == "byte") return make_byte_tokenizer()->vocab_size();
  if (config.data.tokenizer == "sentencepiece") return sentencepiece_vocab_size(config);
  const fs::path file = fs::path(config.data.cache_dir) / cache_key(config) / kTokenizerFile;
  try {
    return deserialize_tokenizer(read_file(file), file.string())->vocab_size();
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool assume_vocabulary(Config& config) {
  const std::optional<int64_t> known = known_vocab_size(config);
  config.model.vocab_size.follow(known.value_or(sentencepiece_vocab_size(config)));
  return !known;
}

}  // namespace switchyard
