// What goes out: the dump, the schema, the reference page, differences.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <set>

#include "base/random.h"
#include "config/fields.h"
#include "config/router_keys.h"
#include "config/scalars.h"
#include "tests/config/helpers.h"

namespace switchyard {
namespace {

using config_test::kSample;
using config_test::parse;

// A deterministic stream of words.
class Words {
 public:
  explicit Words(uint64_t seed) : seed_(seed) {}
  uint64_t next() { return random_word(seed_, RandomPurpose::kSampling, {count_++}); }
  uint64_t below(uint64_t bound) { return next() % bound; }

 private:
  uint64_t seed_;
  uint64_t count_ = 0;
};

// A double of any magnitude inside the range, with all its digits.
double random_real(const RealRange& range, Words& words) {
  for (;;) {
    const auto value = std::bit_cast<double>(words.next() & 0x7fffffffffffffffULL);
    const bool fits = std::isnormal(value) && value > range.least && value < range.most;
    if (fits) return value;
  }
}

// Sets half of the keys at random: numbers, flags, words, texts. Rules between keys are not looked at.
void randomize(Fields& fields, Words& words);

void randomize_value(FieldValue& value, Words& words) {
  static const std::vector<std::string> kTexts = {
      "a",  "true", "12",   "1e5", "ä b", "x: y # z", "'q'", "\"q\"", "\\n\\", "-",  "- a", "? b", "~x",
      "*x", "&x",   "null", "[a]", "{a}", "a,b",      "@a",  "%a",    "`a",    "!a", "|",   " a "};
  std::visit(Overloaded{
                 [&](IntegerValue& v) {
                   const auto most = static_cast<uint64_t>(std::min<int64_t>(v.range.most, v.range.least + 1000));
                   const auto value =
                       static_cast<int64_t>(static_cast<uint64_t>(v.range.least) +
                                            words.below(most - static_cast<uint64_t>(v.range.least) + 1));
                   std::visit([&](auto* target) { *target = value; }, v.target);
                 },
                 [&](RealValue& v) {
                   const double value = random_real(v.range, words);
                   std::visit([&](auto* target) { *target = value; }, v.target);
                 },
                 [&](FlagValue& v) { *v.target = words.below(2) == 1; },
                 [&](TextValue& v) {
                   if (v.rule == TextRule::kAny) *v.target = kTexts[words.below(kTexts.size())];
                 },
                 [&](ChoiceValue& v) { v.set(words.below(v.names.size())); },
                 [&](SectionValue& v) { randomize(v.fields, words); },
                 [&](OptionalSectionValue& v) {
                   v.set_given(words.below(3) > 0);
                   if (v.given()) {
                     Fields fields = v.fields();
                     randomize(fields, words);
                   }
                 },
                 [&](GlobListValue& v) {
                   *v.target = {"/" + kTexts[words.below(kTexts.size())], "/b/*.txt"};
                 },
                 [](auto&) {},
             },
             value);
}

void randomize(Fields& fields, Words& words) {
  for (Field& field : fields) {
    if (words.below(2) == 0 || std::holds_alternative<SectionValue>(field.value)) {
      randomize_value(field.value, words);
    }
  }
}

TEST(Dump, ReadsBackToTheSame) {
  int valid = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    Words words(seed);
    Config random;
    Fields fields = fields_of(random);
    randomize(fields, words);
    Config config;
    try {
      config = parse(dump_config(random));
    } catch (const ConfigError& error) {
      // Only rules between keys may refuse it: each value is in its own range.
      EXPECT_EQ(std::string(error.what()).find(", found "), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find("it must be at least"), std::string::npos) << error.what();
      continue;
    }
    ++valid;
    const std::string dump = dump_config(config);
    const Config again = parse(dump);
    EXPECT_TRUE(compare_configs(config, again).empty()) << dump;
    EXPECT_EQ(dump_config(again), dump);
    EXPECT_EQ(again.optimizer.eps, config.optimizer.eps);
    EXPECT_EQ(again.run.dir, random.run.dir);
  }
  EXPECT_GT(valid, 50);
}

TEST(Dump, TextsOfAnyKindReadBack) {
  for (const std::string text :
       {"a",  "true",  "null", "~",   "12",  "1e5", "0x1",  "ä b", "x: y # z",     "'q'", "\"q\"",
        "\\", "a\\nb", "-",    "- a", "? b", "*x",  "&x",   "[a]", "{a}",          "a,b", "@a",
        "%a", "`a",    "!a",   "|",   " a ", "a:",  ".inf", "..",  "/x/y-z_0.txt", "YES", "2020-01-01"}) {
    Config config = parse(kSample);
    config.run.dir = text;
    config.data.sources[0].name = "n";
    config.data.sources[0].files = {"/f" + text};
    const Config again = parse(dump_config(config));
    EXPECT_EQ(again.run.dir, text);
    EXPECT_EQ(again.data.sources[0].files[0], "/f" + text);
  }
}

TEST(Dump, EveryKeyIsWritten) {
  Config config = config_with_every_section();
  const std::string dump = dump_config(config);
  for (const Field& section : fields_of(config)) {
    EXPECT_NE(dump.find(section.key + ":"), std::string::npos) << section.key;
    if (const auto* s = std::get_if<SectionValue>(&section.value)) {
      for (const Field& field : s->fields) {
        EXPECT_NE(dump.find("\n  " + field.key + ":"), std::string::npos) << field.key;
      }
    }
  }
}

TEST(Dump, LooksLikeThis) {
  const std::string dump = dump_config(parse(kSample));
  EXPECT_TRUE(dump.starts_with("run:\n  dir: runs/demo\n  seed: 1\nmodel:\n  hidden_size: 128\n")) << dump;
  EXPECT_NE(dump.find("  vocab_size: null\n"), std::string::npos);
  EXPECT_NE(dump.find("  layer_freq: 1\n  first_k_dense: 0\n  dense_residual: false\n  router:\n    type: top_k\n    "
                      "softmax: before\n"),
            std::string::npos);
  EXPECT_NE(dump.find("  sources:\n    - name: shakespeare\n      files:\n        - \"/conf/texts/*.txt\"\n"
                      "      weight: 1.0\n      documents: file\n"),
            std::string::npos)
      << dump;
  EXPECT_NE(dump_config(parse("run: {}"))
                .find("moe: null\nmixture_of_depths: null\ndata:\n  tokenizer: byte\n  sources: []\n"),
            std::string::npos);
}

TEST(Dump, WhatFollowsStaysOpen) {
  Config config = parse("model: {hidden_size: 128, head_dim: 16}\nmoe: {}\ntraining: {micro_batch_size: 4}");
  config.model.vocab_size.follow(65);  // the tokenizer's
  const std::string dump = dump_config(config);
  EXPECT_NE(dump.find("\n  head_dim: 16\n"), std::string::npos) << dump;
  EXPECT_NE(dump.find("\n  num_key_value_heads: null  # 4: num_attention_heads\n"), std::string::npos) << dump;
  EXPECT_NE(dump.find("\n  vocab_size: null  # 65: the tokenizer's"), std::string::npos) << dump;
  EXPECT_NE(dump.find("\n    init_scale: null  # 0.1: "), std::string::npos) << dump;
  const Config again = parse(dump, {"training.micro_batch_size=6", "model.hidden_size=64"});
  EXPECT_EQ(again.training.global_batch_size, 6);
  EXPECT_EQ(again.model.intermediate_size, 192);
  EXPECT_EQ(again.moe->intermediate_size, 192);
  EXPECT_EQ(again.model.head_dim, 16);
  EXPECT_FALSE(again.model.vocab_size);
  // Beside weights all shapes are spelt out.
  const Config pinned = parse(dump_config_of_weights(config), {"training.micro_batch_size=6"});
  EXPECT_EQ(pinned.training.global_batch_size, 6);
  EXPECT_TRUE(pinned.model.vocab_size.given());
  EXPECT_EQ(pinned.model.vocab_size, 65);
  EXPECT_TRUE(pinned.moe->intermediate_size.given());
}

TEST(Dump, EveryKeyThatFollowsSaysFromWhat) {
  Config config = config_with_every_section();
  const std::function<void(const Fields&)> check = [&](const Fields& fields) {
    for (const Field& field : fields) {
      if (const auto* section = std::get_if<SectionValue>(&field.value)) check(section->fields);
      if (const auto* optional = std::get_if<OptionalSectionValue>(&field.value)) check(optional->fields());
      const auto* integer = std::get_if<IntegerValue>(&field.value);
      const auto* real = std::get_if<RealValue>(&field.value);
      const bool follows =
          (integer != nullptr && integer->target.index() == 2) || (real != nullptr && real->target.index() == 2);
      EXPECT_TRUE(!follows || !field.fallback.empty()) << field.key;
    }
  };
  check(fields_of(config));
}

TEST(Dump, DecimalsAreShortAndReadAsNumbersEverywhere) {
  EXPECT_EQ(as_decimal(0.1), "0.1");
  EXPECT_EQ(as_decimal(1.0), "1.0");
  EXPECT_EQ(as_decimal(1e-5), "1.0e-05");
  EXPECT_EQ(as_decimal(1.5e-7), "1.5e-07");
  EXPECT_EQ(as_decimal(1e22), "1.0e+22");
  EXPECT_EQ(as_decimal(-2.5), "-2.5");
}

// Walks a schema's properties along a dotted key; list indices step into "items".
const OrderedJson* schema_at(const OrderedJson& schema, const std::string& dotted) {
  const OrderedJson* at = &schema;
  std::string rest = dotted;
  while (!rest.empty()) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string part = rest.substr(0, dot);
    rest = dot == rest.size() ? "" : rest.substr(dot + 1);
    if (at->contains("anyOf")) at = &at->at("anyOf").back();
    if (at->contains("items")) {
      at = &at->at("items");
    } else if (at->contains("properties") && at->at("properties").contains(part)) {
      at = &at->at("properties").at(part);
    } else {
      return nullptr;
    }
  }
  return at;
}

void collect_keys(const Fields& fields, const std::string& path, std::vector<std::string>& keys) {
  for (const Field& field : fields) {
    keys.push_back(path + field.key);
    std::visit(Overloaded{
                   [&](const SectionValue& v) { collect_keys(v.fields, path + field.key + ".", keys); },
                   [&](const OptionalSectionValue& v) { collect_keys(v.fields(), path + field.key + ".", keys); },
                   [&](const SectionListValue& v) { collect_keys(v.fields(0), path + field.key + ".0.", keys); },
                   [](const auto&) {},
               },
               field.value);
  }
}

std::vector<std::string> all_keys() {
  Config config = config_with_every_section();
  std::vector<std::string> keys;
  collect_keys(fields_of(config), "", keys);
  return keys;
}

TEST(Schema, HasEveryKeyWithItsDescription) {
  const OrderedJson schema = config_schema();
  EXPECT_EQ(schema.at("$schema"), "https://json-schema.org/draft/2020-12/schema");
  EXPECT_GT(all_keys().size(), 70U);
  for (const std::string& key : all_keys()) {
    const OrderedJson* at = schema_at(schema, key);
    ASSERT_NE(at, nullptr) << key;
    EXPECT_FALSE(at->at("description").get<std::string>().empty()) << key;
    EXPECT_TRUE(at->contains("type") || at->contains("anyOf")) << key;
  }
}

TEST(Schema, RangesDefaultsAndWords) {
  const OrderedJson schema = config_schema();
  EXPECT_EQ(schema_at(schema, "")->at("additionalProperties"), false);
  EXPECT_EQ(schema_at(schema, "model")->at("additionalProperties"), false);
  EXPECT_EQ(schema_at(schema, "model.hidden_size")->at("type"), "integer");
  EXPECT_EQ(schema_at(schema, "model.hidden_size")->at("minimum"), 1);
  EXPECT_EQ(schema_at(schema, "model.hidden_size")->at("default"), 256);
  EXPECT_EQ(schema_at(schema, "model.head_dim")->at("type"), OrderedJson({"integer", "null"}));
  EXPECT_EQ(schema_at(schema, "optimizer.beta1")->at("exclusiveMaximum"), 1.0);
  EXPECT_EQ(schema_at(schema, "optimizer.beta1")->at("minimum"), 0.0);
  EXPECT_EQ(schema_at(schema, "moe.capacity_factor")->at("exclusiveMinimum"), 0.0);
  EXPECT_EQ(schema_at(schema, "schedule.type")->at("enum"), OrderedJson({"cosine", "linear", "constant", "wsd"}));
  std::vector<std::string> words;
  for (const auto& [word, type] : router_types()) words.push_back(word);
  EXPECT_EQ(schema_at(schema, "moe.router")->at("anyOf").front().at("enum"), OrderedJson(words));
  EXPECT_EQ(schema_at(schema, "moe.router.jitter")->at("default"), 0.0);
  EXPECT_EQ(schema_at(schema, "data.sources.0")->at("required"), OrderedJson({"name", "files"}));
  EXPECT_EQ(schema.at("properties").at("extends").at("type"), OrderedJson({"string", "null"}));
  EXPECT_TRUE(parse_json(schema.dump(), "schema").is_object());
}

TEST(Reference, HasEveryKeyAndSection) {
  const std::string page = config_reference();
  for (const std::string section :
       {"run", "model", "moe", "moe.router", "data", "data.sources", "training", "training.spike", "metrics"}) {
    EXPECT_NE(page.find("\n## " + section + "\n"), std::string::npos) << section;
  }
  for (const std::string& key : all_keys()) {
    const std::string last = key.substr(key.rfind('.') + 1);
    EXPECT_TRUE(page.find("| `" + last + "` |") != std::string::npos || page.find(last + "\n") != std::string::npos)
        << key;
  }
  EXPECT_NE(page.find("| `beta1` | number | `0.9` | at least 0 and below 1 |"), std::string::npos);
  EXPECT_NE(page.find("| `seq_length` | integer, tokens | `256` |"), std::string::npos);
}

TEST(Compare, NamesEveryDifference) {
  const Config before = parse(kSample);
  EXPECT_TRUE(compare_configs(before, before).empty());
  const Config after = parse(kSample, {"optimizer.lr=2e-3", "moe.router.jitter=0.1", "model.vocab_size=300",
                                       "data.sources.0.files=[/x]", "moe.layer_freq=[0,1,0,1]"});
  const std::vector<ConfigDifference> found = compare_configs(before, after);
  ASSERT_EQ(found.size(), 5U);
  const auto expect = [&](size_t i, const std::string& key, const std::string& old, const std::string& now) {
    EXPECT_EQ(found[i].key, key);
    EXPECT_EQ(found[i].before, old);
    EXPECT_EQ(found[i].after, now);
  };
  expect(0, "model.vocab_size", "null", "300");
  expect(1, "moe.layer_freq", "1", "[0, 1, 0, 1]");
  expect(2, "moe.router.jitter", "0.0", "0.1");
  expect(3, "data.sources.0.files", "[\"/conf/texts/*.txt\"]", "[/x]");
  expect(4, "optimizer.lr", "0.001", "0.002");
}

TEST(Compare, SectionsAndEntriesThatOnlyOneSideHas) {
  const std::vector<ConfigDifference> dense = compare_configs(parse(kSample), parse(kSample, {"moe=null"}));
  ASSERT_EQ(dense.size(), 1U);
  EXPECT_EQ(dense[0].key, "moe");
  EXPECT_EQ(dense[0].before, "given");
  EXPECT_EQ(dense[0].after, "null");
  const std::vector<ConfigDifference> sources = compare_configs(parse(kSample, {"data.sources=[]"}), parse(kSample));
  ASSERT_EQ(sources.size(), 1U);
  EXPECT_EQ(sources[0].key, "data.sources");
  EXPECT_EQ(sources[0].before, "0 entries");
  EXPECT_EQ(sources[0].after, "1 entry");
}

}  // namespace
}  // namespace switchyard
