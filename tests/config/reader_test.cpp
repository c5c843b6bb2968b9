// What is refused key by key, with the exact message and position.
#include <gtest/gtest.h>

#include <cstdlib>

#include "config/other_names.h"
#include "tests/config/helpers.h"

namespace switchyard::reader_test {
namespace {

using config_test::error_of;
using config_test::parse;

struct Case {
  std::string text;
  std::string message;
};

void expect_messages(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_EQ(error_of(c.text), c.message) << c.text;
  }
}

TEST(Reader, UnknownKeysNameTheNearestOne) {
  expect_messages({
      {"model:\n  hidden_sise: 96\n",
       "c.yaml:2:3: key 'model.hidden_sise' is not known here; did you mean 'hidden_size'?"},
      {"modle: {}", "c.yaml:1:1: key 'modle' is not known here; did you mean 'model'?"},
      {"lr: 1\n", "c.yaml:1:1: key 'lr' is not known here; did you mean 'optimizer.lr'?"},
      {"model: {top_k: 1}", "c.yaml:1:9: key 'model.top_k' is not known here; did you mean 'moe.top_k'?"},
      {"eval: {zebra: 1}", "c.yaml:1:8: key 'eval.zebra' is not known here; known keys here: interval, batches"},
      {"moe: {router: {jiter: 0}}", "c.yaml:1:16: key 'moe.router.jiter' is not known here; did you mean 'jitter'?"},
      {"training: {spike: {windo: 3}}",
       "c.yaml:1:20: key 'training.spike.windo' is not known here; did you mean 'window'?"},
      {"eval: {\"a\\nb\": 1}", "c.yaml:1:8: key 'eval.a\\x0ab' is not known here; known keys here: interval, batches"},
  });
}

TEST(Reader, NamesOfOtherTrainersAreKnown) {
  expect_messages({
      {"learning_rate: 1\n", "c.yaml:1:1: key 'learning_rate' is not known here; did you mean 'optimizer.lr'?"},
      {"model: {n_layer: 6}", "c.yaml:1:9: key 'model.n_layer' is not known here; did you mean 'model.num_layers'?"},
      {"training: {epochs: 3}",
       "c.yaml:1:12: key 'training.epochs' is not known here; did you mean 'training.max_steps'?"},
      {"model: {num_hidden_layers: 3}",
       "c.yaml:1:9: key 'model.num_hidden_layers' is not known here; did you mean 'model.num_layers'?"},
      {"batch_size: 3", "c.yaml:1:1: key 'batch_size' is not known here; did you mean 'training.global_batch_size'?"},
  });
  for (const OtherNames& one : other_names()) {
    const std::string key = one.key;
    EXPECT_EQ(error_of("run: {}", {key + "=0"}).find("is not known"), std::string::npos) << key;
    for (const std::string_view name : one.names) {
      EXPECT_EQ(key_called(name), key);
      EXPECT_FALSE(key.ends_with("." + std::string(name))) << name;
    }
  }
}

TEST(Reader, FoldersAtHome) {
  ::setenv("HOME", "/home/me", 1);
  EXPECT_EQ(parse("run: {dir: ~/runs/a}\ndata: {cache_dir: ~/shards}\n").run.dir, "/home/me/runs/a");
  EXPECT_EQ(parse("data: {cache_dir: ~/shards}\n").data.cache_dir, "/home/me/shards");
  EXPECT_EQ(parse("run: {dir: runs/~}\n").run.dir, "runs/~");
}

TEST(Reader, AMisspeltKeyCausesNoSecondError) {
  // The default hidden size 256 is not a multiple of 6, but 96 was meant.
  EXPECT_EQ(error_of("model: {hidden_sise: 96, num_attention_heads: 6}"),
            "c.yaml:1:9: key 'model.hidden_sise' is not known here; did you mean 'hidden_size'?");
  EXPECT_EQ(error_of("data: {sources: [{nme: a, files: [b]}]}"),
            "c.yaml:1:19: key 'data.sources.0.nme' is not known here; did you mean 'name'?");
  EXPECT_EQ(error_of("model: {hidden_size: '96', num_attention_heads: 6}"),
            "c.yaml:1:22: key 'model.hidden_size' needs a whole number, found '96' in quotes; write 96");
}

TEST(Reader, WholeNumbers) {
  const auto run = [](const std::string& value) { return "run:\n  seed: " + value + "\n"; };
  const std::string at = "c.yaml:2:9: key 'run.seed' ";
  expect_messages({
      {run("010"), at + "needs a whole number, found '010'; write it without leading zeros"},
      {run("0x10"), at + "needs a whole number, found '0x10'; write it in decimal"},
      {run("0o17"), at + "needs a whole number, found '0o17'; write it in decimal"},
      {run("1_000"), at + "needs a whole number, found '1_000'; write 1000"},
      {run("1,000,000"), at + "needs a whole number, found '1,000,000'; write 1000000"},
      {run("1.0"), at + "needs a whole number, found '1.0'; write 1"},
      {run("1e3"), at + "needs a whole number, found '1e3'; write 1000"},
      {run("1.5"), at + "needs a whole number, found '1.5'"},
      {run("+1"), at + "needs a whole number, found '+1'"},
      {run("abc"), at + "needs a whole number, found 'abc'"},
      {run("1 2"), at + "needs a whole number, found '1 2'"},
      {run("true"), at + "needs a whole number, found 'true'"},
      {run("\"1\""), at + "needs a whole number, found '1' in quotes; write 1"},
      {run("[1]"), at + "needs a whole number, found a list"},
      {run("{a: 1}"), at + "needs a whole number, found a map"},
      {run("9223372036854775808"), at + "needs a whole number of at most 64 bits, found '9223372036854775808'"},
      {run("-1"), at + "is -1; it must be at least 0"},
      {"run:\n  seed:\n", "c.yaml:2:3: key 'run.seed' needs a whole number, found null"},
      {"run:\n  seed: ~\n", "c.yaml:2:3: key 'run.seed' needs a whole number, found null"},
  });
}

TEST(Reader, RealNumbers) {
  const auto lr = [](const std::string& value) { return "optimizer:\n  lr: " + value + "\n"; };
  const std::string at = "c.yaml:2:7: key 'optimizer.lr' ";
  expect_messages({
      {lr(".nan"), at + "needs a finite number, found '.nan'"},
      {lr("nan"), at + "needs a finite number, found 'nan'"},
      {lr("NaN"), at + "needs a finite number, found 'NaN'"},
      {lr(".inf"), at + "needs a finite number, found '.inf'"},
      {lr("-inf"), at + "needs a finite number, found '-inf'"},
      {lr("infinity"), at + "needs a finite number, found 'infinity'"},
      {lr("1e999"), at + "needs a number that a double can hold, found '1e999'"},
      {lr("1e-999"), at + "needs a number that a double can hold, found '1e-999'"},
      {lr("0x1p3"), at + "needs a finite number, found '0x1p3'"},
      {lr("0x10"), at + "needs a finite number, found '0x10'; write it in decimal"},
      {lr("01.5"), at + "needs a finite number, found '01.5'; write it without leading zeros"},
      {lr("1_0"), at + "needs a finite number, found '1_0'"},
      {lr("1e"), at + "needs a finite number, found '1e'"},
      {lr("."), at + "needs a finite number, found '.'"},
      {lr("'0.1'"), at + "needs a finite number, found '0.1' in quotes; write 0.1"},
      {lr("true"), at + "needs a finite number, found 'true'"},
      {lr("-1"), at + "is -1.0; it must be at least 0 and at most 1000000"},
  });
}

TEST(Reader, Flags) {
  const auto flag = [](const std::string& value) { return "model:\n  post_norm: " + value + "\n"; };
  const std::string at = "c.yaml:2:14: key 'model.post_norm' needs true or false, found ";
  expect_messages({
      {flag("true"), ""},
      {flag("false"), ""},
      {flag("yes"), at + "'yes'; write true"},
      {flag("True"), at + "'True'; write true"},
      {flag("on"), at + "'on'; write true"},
      {flag("1"), at + "'1'; write true"},
      {flag("no"), at + "'no'; write false"},
      {flag("FALSE"), at + "'FALSE'; write false"},
      {flag("0"), at + "'0'; write false"},
      {flag("maybe"), at + "'maybe'"},
      {flag("'true'"), at + "'true' in quotes; write true"},
      {flag("[true]"), at + "a list"},
  });
}

TEST(Reader, WordsAndTexts) {
  expect_messages({
      {"training: {precision: fp16}",
       "c.yaml:1:23: key 'training.precision' needs fp32, bf16 or fp64, found 'fp16'; did you mean 'fp32'?"},
      {"training: {device: gpu}",
       "c.yaml:1:20: key 'training.device' needs auto, cpu or cuda, found 'gpu'; did you "
       "mean 'cpu'?"},
      {"schedule: {type: 3}", "c.yaml:1:18: key 'schedule.type' needs cosine, linear, constant or wsd, found '3'"},
      {"schedule: {type: []}", "c.yaml:1:18: key 'schedule.type' needs cosine, linear, constant or wsd, found a list"},
      {"run: {dir: ''}", "c.yaml:1:12: key 'run.dir' must not be empty"},
      {"run: {dir: }", "c.yaml:1:7: key 'run.dir' needs a text, found null"},
      {"run: {dir: [a]}", "c.yaml:1:12: key 'run.dir' needs a text, found a list"},
      {"run: {dir: \"a\\nb\"}", "c.yaml:1:12: key 'run.dir' has a control character in 'a\\x0ab'"},
      {"run: {dir: \"a\\0b\"}", "c.yaml:1:12: key 'run.dir' has a control character in 'a\\x00b'"},
  });
}

TEST(Reader, Tokenizer) {
  const std::string at = "c.yaml:1:19: key 'data.tokenizer' ";
  expect_messages({
      {"data: {tokenizer: byte}", ""},
      {"data: {tokenizer: sentencepiece}", ""},
      {"data: {tokenizer: 'sentencepiece:a.model'}", ""},
      {"data: {tokenizer: 'huggingface:tokenizer.json'}", ""},
      {"data: {tokenizer: 'huggingface:'}", at + "names no file after 'huggingface:'"},
      {"data: {tokenizer: 'sentencepiece:'}",
       at + "names no file after 'sentencepiece:'; leave the colon out to train a model"},
      {"data: {tokenizer: bytes}", at + "is 'bytes'; it must be byte, char, sentencepiece, sentencepiece:FILE or "
                                        "huggingface:FILE; did you mean 'byte'?"},
      {"data: {tokenizer: gpt2}",
       at + "is 'gpt2'; it must be byte, char, sentencepiece, sentencepiece:FILE or huggingface:FILE"},
  });
}

TEST(Reader, Sources) {
  expect_messages({
      {"data: {sources: []}", ""},
      {"data:\n  sources:\n    - {}\n",
       "c.yaml:3:7: key 'data.sources.0.name' is missing\nc.yaml:3:7: key 'data.sources.0.files' is missing"},
      {"data: {sources: {name: a}}", "c.yaml:1:17: key 'data.sources' needs a list of maps, found a map"},
      {"data: {sources: [a]}", "c.yaml:1:18: key 'data.sources.0' needs a map of keys, found 'a'"},
      {"data: {sources: [{name: a, files: b}]}",
       "c.yaml:1:35: key 'data.sources.0.files' needs a list of globs, "
       "found 'b'; write it as a list in brackets"},
      {"data: {sources: [{name: a, files: []}]}",
       "c.yaml:1:35: key 'data.sources.0.files' is an empty list; it needs at least one glob"},
      {"data: {sources: [{name: a, files: [b, '', [c]]}]}",
       "c.yaml:1:39: key 'data.sources.0.files.1' must not be empty\n"
       "c.yaml:1:43: key 'data.sources.0.files.2' needs a text, found a list"},
      {"data: {sources: [{name: a/b, files: [c]}]}",
       "c.yaml:1:25: key 'data.sources.0.name' is 'a/b'; a name has 1 to 100 letters, digits, '_', '-' or '.', and "
       "does "
       "not begin with '.'"},
      {"data: {sources: [{name: .., files: [c]}]}",
       "c.yaml:1:25: key 'data.sources.0.name' is '..'; a name has 1 to 100 letters, digits, '_', '-' or '.', and does "
       "not begin with '.'"},
      {"data: {sources: [{name: a, files: [*.txt]}]}",
       "c.yaml:1:36: a word that starts with '*' is a YAML alias, and aliases are not supported; put a glob in quotes"},
  });
}

TEST(Reader, LayerFrequency) {
  const auto freq = [](const std::string& value) { return "moe:\n  layer_freq: " + value + "\n"; };
  const std::string at = "c.yaml:2:15: key 'moe.layer_freq' ";
  expect_messages({
      {freq("0"), at + "is 0; it must be at least 1 and at most 16384"},
      {freq("x"), at + "needs a whole number, found 'x'"},
      {freq("{}"), at + "needs a whole number or a list of 0 and 1, found a map"},
      {freq("[]"), at + "is an empty list; it needs a 0 or 1 for each layer"},
      {freq("[1, 2, 0, x]"),
       "c.yaml:2:19: key 'moe.layer_freq.1' is 2; it must be at least 0 and at most 1\n"
       "c.yaml:2:25: key 'moe.layer_freq.3' needs a whole number, found 'x'"},
  });
}

TEST(Reader, SectionsAreMaps) {
  expect_messages({
      {"model: 5", "c.yaml:1:8: key 'model' needs a map of keys, found '5'"},
      {"model: [1]", "c.yaml:1:8: key 'model' needs a map of keys, found a list"},
      {"moe: 5", "c.yaml:1:6: key 'moe' needs a map of keys or null, found '5'"},
      {"training: {spike: warn}", "c.yaml:1:19: key 'training.spike' needs a map of keys, found 'warn'"},
  });
}

TEST(Reader, Ranges) {
  expect_messages({
      {"optimizer: {beta1: 1}", "c.yaml:1:20: key 'optimizer.beta1' is 1.0; it must be at least 0 and below 1"},
      {"optimizer: {beta2: 1.5}", "c.yaml:1:20: key 'optimizer.beta2' is 1.5; it must be at least 0 and below 1"},
      {"model: {dropout: 1}", "c.yaml:1:18: key 'model.dropout' is 1.0; it must be at least 0 and below 1"},
      {"moe: {router: {jitter: 1}}", "c.yaml:1:24: key 'moe.router.jitter' is 1.0; it must be at least 0 and below 1"},
      {"moe: {capacity_factor: 0}",
       "c.yaml:1:24: key 'moe.capacity_factor' is 0.0; it must be above 0 and at most 1000000"},
      {"data: {validation_fraction: 0}",
       "c.yaml:1:29: key 'data.validation_fraction' is 0.0; it must be above 0 and at most 0.5"},
      {"data: {validation_fraction: 0.5}", ""},
      {"data: {validation_fraction: 0.51}",
       "c.yaml:1:29: key 'data.validation_fraction' is 0.51; it must be above 0 and at most 0.5"},
      {"training: {num_threads: 1025}",
       "c.yaml:1:25: key 'training.num_threads' is 1025; it must be at least 0 and at most 1024"},
      {"training: {max_steps: 0}",
       "c.yaml:1:23: key 'training.max_steps' is 0; it must be at least 1 and at most 1000000000000"},
      {"checkpoint: {keep_last: 1}", ""},
      {"checkpoint: {keep_last: -1}",
       "c.yaml:1:25: key 'checkpoint.keep_last' is -1; it must be at least 0 and at most 1000000"},
      {"model: {hidden_size: 0}",
       "c.yaml:1:22: key 'model.hidden_size' is 0; it must be at least 1 and at most 1048576"},
  });
}

TEST(Reader, DuplicateKeysNameTheFirstLine) {
  expect_messages({
      {"run: {seed: 1}\nmodel: {}\nrun: {seed: 2}\n",
       "c.yaml:3:1: key 'run' is given twice; the first one is in line 1"},
      {"model:\n  hidden_size: 64\n\n  hidden_size: 128\n",
       "c.yaml:4:3: key 'model.hidden_size' is given twice; the first one is in line 2"},
      {"data:\n  sources:\n    - {name: a, files: [b]}\n    - name: c\n      files: [d]\n      name: e\n",
       "c.yaml:6:7: key 'data.sources.1.name' is given twice; the first one is in line 4"},
  });
}

TEST(Reader, ColumnsCountCharacters) {
  EXPECT_EQ(error_of("run: {dir: größe値, sed: 1}"),
            "c.yaml:1:20: key 'run.sed' is not known here; did you mean 'seed'?");
  EXPECT_EQ(error_of("\xef\xbb\xbfrun: {sed: 1}"), "c.yaml:1:7: key 'run.sed' is not known here; did you mean 'seed'?");
}

TEST(Reader, AllProblemsTogetherInOrder) {
  EXPECT_EQ(error_of(R"(optimizer: {beta1: 2}
model:
  num_attention_heads: 3
  hidden_size: 64
  num_layers: x
run: {sed: 1}
run: {seed: 2}
)"),
            "c.yaml:1:20: key 'optimizer.beta1' is 2.0; it must be at least 0 and below 1\n"
            "c.yaml:3:24: key 'model.num_attention_heads' is 3, which does not divide model.hidden_size 64; change one "
            "of them or give model.head_dim\n"
            "c.yaml:5:15: key 'model.num_layers' needs a whole number, found 'x'\n"
            "c.yaml:6:7: key 'run.sed' is not known here; did you mean 'seed'?\n"
            "c.yaml:7:1: key 'run' is given twice; the first one is in line 6");
}

TEST(Reader, ManyProblemsAreCut) {
  std::string text = "eval:\n";
  for (int i = 0; i < 130; ++i) {
    text += "  zzzzzz" + std::to_string(i) + ": 1\n";
  }
  const std::string message = error_of(text);
  EXPECT_NE(message.find("zzzzzz99'"), std::string::npos);
  EXPECT_EQ(message.find("zzzzzz100'"), std::string::npos);
  EXPECT_TRUE(message.ends_with("\n... and 30 more problems")) << message.substr(message.size() - 60);
}

TEST(Reader, LongWordsAreCutInMessages) {
  const std::string message = error_of("run: {seed: " + std::string(5000, 'x') + "}");
  EXPECT_EQ(message, "c.yaml:1:13: key 'run.seed' needs a whole number, found '" + std::string(80, 'x') + "...'");
  const std::string wide = error_of("run: {seed: " + std::string("x") + [] {
    std::string text;
    for (int i = 0; i < 100; ++i) text += "値";
    return text;
  }() + "}");
  EXPECT_TRUE(wide.ends_with("値...'")) << wide;
}

}  // namespace
}  // namespace switchyard::reader_test
