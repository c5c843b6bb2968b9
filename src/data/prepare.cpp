#include "data/prepare.h"

#include <spdlog/spdlog.h>

#include <chrono>

#include "base/errors.h"
#include "base/files.h"
#include "base/text.h"
#include "data/documents.h"
#include "data/encoding.h"
#include "data/parallel_for.h"
#include "data/split.h"
#include "data/token_shard.h"
#include "data/tokenizer.h"
#include "data/tokenizer_choice.h"
#include "data/tokenizer_sample.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct SourceFiles {
  std::vector<std::string> files;  // `documents` points into these
  SourceDocuments documents;
};

SourceFiles read_source(const SourceConfig& source, std::vector<InputFile>& inputs) {
  SourceFiles text{.files = {}, .documents = {.name = source.name, .documents = {}}};
  SourceFaults faults;
  for (InputFile& input : inputs) {
    if (input.source != source.name) continue;
    std::string content = read_file(input.path);
    input.checksum = checksum(content);
    content = text_of_file(std::move(content), input.path);
    if (source.encoding != TextEncoding::kBytes) {
      refuse_known_formats(content, input.path);
      if (source.encoding == TextEncoding::kLatin1) content = utf8_of_latin1(content);
      faults.add(find_faults(content), input.path);
    }
    text.files.push_back(std::move(content));
  }
  faults.judge(source.name);
  for (const std::string& file : text.files) {
    const std::vector<std::string_view> found = documents_of(file, source.documents);
    text.documents.documents.insert(text.documents.documents.end(), found.begin(), found.end());
  }
  return text;
}

std::vector<SplitDocuments> split_sources(const std::vector<SourceFiles>& sources, double validation_fraction) {
  std::vector<SourceDocuments> documents;
  for (const SourceFiles& source : sources) documents.push_back(source.documents);
  std::vector<SplitDocuments> splits = split_documents(documents, validation_fraction);
  for (size_t i = 0; i < sources.size(); ++i) {
    spdlog::info("data: {}: {} files, {} documents, {} to train on, {} to validate", documents[i].name,
                 with_thousands(static_cast<int64_t>(sources[i].files.size())),
                 with_thousands(static_cast<int64_t>(documents[i].documents.size())),
                 as_bytes_text(static_cast<double>(bytes_of(splits[i].train))),
                 as_bytes_text(static_cast<double>(bytes_of(splits[i].validation))));
  }
  return splits;
}

std::unique_ptr<Tokenizer> train_tokenizer(const Config& config, const std::vector<SplitDocuments>& sources) {
  std::vector<std::vector<std::string_view>> domains;
  for (const SplitDocuments& source : sources) domains.push_back(source.train);
  const std::vector<std::string_view> sample = tokenizer_sample(domains, config.data.tokenizer_sample_bytes);
  const int64_t vocab_size = sentencepiece_vocab_size(config);
  const Clock::time_point start = Clock::now();
  spdlog::info("data: training a sentencepiece tokenizer of {} pieces on {} of text", with_thousands(vocab_size),
               as_bytes_text(static_cast<double>(bytes_of(sample))));
  auto tokenizer = train_sentencepiece(sample, vocab_size);
  spdlog::info("data: tokenizer trained in {:.1f} s", seconds_since(start));
  return tokenizer;
}

std::unique_ptr<Tokenizer> make_tokenizer(const Config& config, const std::vector<SplitDocuments>& sources) {
  const std::string& choice = config.data.tokenizer;
  if (choice == "byte") return make_byte_tokenizer();
  if (choice == "sentencepiece") return train_tokenizer(config, sources);
  if (auto loaded = load_tokenizer(choice)) return loaded;
  if (choice != "char") {
    throw DataError("data.tokenizer is '" + choice +
                    "', known are byte, char, sentencepiece, sentencepiece:FILE and huggingface:FILE");
  }
  std::vector<std::string_view> texts;
  for (const SplitDocuments& source : sources) {
    texts.insert(texts.end(), source.train.begin(), source.train.end());
    texts.insert(texts.end(), source.validation.begin(), source.validation.end());
  }
  return make_char_tokenizer(texts);
}

class ShardMaker {
 public:
  ShardMaker(const Tokenizer& tokenizer, int64_t num_threads, fs::path folder)
      : tokenizer_(tokenizer), num_threads_(num_threads), folder_(std::move(folder)) {}

  // Returns the shard's file name and checksum.
  std::pair<std::string, std::string> make(const std::string& domain, const std::string& file,
                                           const std::vector<std::string_view>& documents) const {
    const Clock::time_point start = Clock::now();
    std::vector<std::vector<int32_t>> tokens(documents.size());
    parallel_for(documents.size(), num_threads_, [&](size_t i) {
      tokens[i] = tokenizer_.encode(documents[i]);
      tokens[i].push_back(tokenizer_.end_of_text());
    });
    write_token_shard(folder_ / file, domain, tokenizer_.vocab_size(), tokens);
    const TokenShard shard = TokenShard::open(folder_ / file);
    spdlog::info("data: {}: {} tokens in {} documents ({:.1f} s)", file, with_thousands(shard.num_tokens()),
                 with_thousands(shard.num_documents()), seconds_since(start));
    return {file, shard.content_checksum()};
  }

 private:
  const Tokenizer& tokenizer_;
  int64_t num_threads_;
  fs::path folder_;
};

}  // namespace

std::string train_file(const std::string& domain) { return domain + ".train.bin"; }
std::string validation_file(const std::string& domain) { return domain + ".validation.bin"; }

void prepare_folder(const Config& config, std::vector<InputFile> inputs, const fs::path& folder,
                    const Tokenizer* given) {
  std::vector<SourceFiles> sources;
  for (const SourceConfig& source : config.data.sources) sources.push_back(read_source(source, inputs));
  for (InputFile& input : inputs) {
    if (input.source.empty()) input.checksum = checksum_file(input.path);
  }
  const std::vector<SplitDocuments> splits = split_sources(sources, config.data.validation_fraction);

  const std::unique_ptr<Tokenizer> made = given == nullptr ? make_tokenizer(config, splits) : nullptr;
  const Tokenizer& tokenizer = given == nullptr ? *made : *given;
  const std::string serialized = tokenizer.serialize();
  write_file_durably(folder / kTokenizerFile, serialized);
  CacheManifest manifest{.inputs = std::move(inputs), .files = {{kTokenizerFile, checksum(serialized)}}};
  const ShardMaker shards(tokenizer, config.training.num_threads, folder);
  for (size_t i = 0; i < splits.size(); ++i) {
    const std::string& name = config.data.sources[i].name;
    manifest.files.push_back(shards.make(name, train_file(name), splits[i].train));
    manifest.files.push_back(shards.make(name, validation_file(name), splits[i].validation));
  }
  write_cache_manifest(folder, manifest);
}

}  // namespace switchyard
