// Malformed and hostile texts: each ends in a ConfigError that names the file, or is valid; never in a crash, a hang or
// unbounded memory.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/random.h"
#include "config/fields.h"
#include "tests/config/helpers.h"

namespace switchyard::malformed_test {
namespace {

using config_test::error_of;
using config_test::kSample;
using config_test::parse;

std::string repeated(const std::string& unit, size_t times) {
  std::string result;
  for (size_t i = 0; i < times; ++i) result += unit;
  return result;
}

// Any other exception than ConfigError fails the test; an error must begin with the place.
bool is_refused(const std::string& text) {
  const std::string message = error_of(text);
  EXPECT_TRUE(message.empty() || message.starts_with("c.yaml:")) << message;
  return !message.empty();
}

struct Case {
  std::string text;
  std::string message;
};

TEST(Malformed, TextsThatAreNoYamlDocument) {
  const std::string empty = "c.yaml: the file is empty; it needs sections such as 'model:' or 'data:'";
  const std::vector<Case> cases = {
      {"", empty},
      {"\n\n", empty},
      {"# only a comment\n", empty},
      {"---\n", empty},
      {"null", empty},
      {"- a\n", "c.yaml:1:1: needs sections such as 'model:' at the top of the file, found a list"},
      {"word", "c.yaml:1:1: needs sections such as 'model:' at the top of the file, found 'word'"},
      {"run: {}\n---\nrun: {}\n",
       "c.yaml:2:1: a second YAML document starts here, or text that does not belong to the map above"},
      {"run: {seed: 1\n", "c.yaml:2:1: this is not valid YAML: end of map flow not found"},
      {"run:\n\tseed: 1\n", "c.yaml:2:1: a tab in the indentation; YAML is indented with spaces"},
      {"run: {}\nmodel:\n  \thidden_size: 1\n", "c.yaml:3:3: a tab in the indentation; YAML is indented with spaces"},
      {"run: {dir: \"a}\n", "c.yaml:1:12: this quote is never closed"},
      {"run: {dir: 'it''s}\n", "c.yaml:1:12: this quote is never closed"},
      {"run: {dir: \"a\\\"}\n", "c.yaml:1:12: this quote is never closed"},
      {"run: {dir: a\xff}\n", "c.yaml:1:13: byte 0xff is not UTF-8 text; save the file as UTF-8"},
      {"run: {dir: \xc3(}\n", "c.yaml:1:12: byte 0xc3 is not UTF-8 text; save the file as UTF-8"},
      {"run: {dir: \xed\xa0\x80}\n", "c.yaml:1:12: byte 0xed is not UTF-8 text; save the file as UTF-8"},
      {"run: {dir: \xc0\xaf}\n", "c.yaml:1:12: byte 0xc0 is not UTF-8 text; save the file as UTF-8"},
      {"run: {dir: \xf4\x90\x80\x80}\n", "c.yaml:1:12: byte 0xf4 is not UTF-8 text; save the file as UTF-8"},
      {"run: {dir: value\xe5\x80", "c.yaml:1:17: byte 0xe5 is not UTF-8 text; save the file as UTF-8"},
      {std::string("run: {}\n\0", 9), "c.yaml:2:1: control character 0x00 is not text"},
      {"run: \x04{}\n", "c.yaml:1:6: control character 0x04 is not text"},
      {"run: {}\rmodel: {}\n", "c.yaml:1:8: control character 0x0d is not text"},
      {"a: &x 1\n", "c.yaml:1:4: YAML anchors are not supported; build on another file with 'extends:'"},
      {"run: {seed: *x}\n",
       "c.yaml:1:13: a word that starts with '*' is a YAML alias, and aliases are not supported; put a glob in quotes"},
      {"run: {seed: !!int 1}\n", "c.yaml:1:13: YAML tags such as '!!int' are not supported; leave the tag out"},
      {"run: {dir: ! a}\n", "c.yaml:1:12: YAML tags such as '!!int' are not supported; leave the tag out"},
      {"? [a]\n: 1\n", "c.yaml:1:3: a key must be a plain word, found a list; is a bracket not closed?"},
      {"? {a: 1}\n: 1\n", "c.yaml:1:3: a key must be a plain word, found a map; is a bracket not closed?"},
      {"~: 1\n", "c.yaml:1:1: a key must be a plain word, found null"},
      {"run: a: b\n", "c.yaml:1:7: this is not valid YAML: illegal map value"},
      {"run: {}\n}\n", "c.yaml:2:1: this is not valid YAML: illegal flow end"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(error_of(c.text), c.message) << c.text;
  }
}

// The parser marks what is left out by what comes before it.
TEST(Malformed, PlacesOfALineAreRightAlsoBackwards) {
  const std::string error = error_of("{? \xc3\xa9\xc3\xa9, ? x, ? y: 1}");
  for (const char* place : {"c.yaml:1:4: key", "c.yaml:1:10: key 'x'", "c.yaml:1:15: key 'y'"}) {
    EXPECT_NE(error.find(place), std::string::npos) << error;
  }
}

TEST(Malformed, NestingIsBounded) {
  const std::string deep = "nested deeper than 32 levels";
  for (const size_t depth : {33, 100, 500, 999}) {
    EXPECT_EQ(error_of("run: " + repeated("[", depth) + repeated("]", depth)), "c.yaml:1:37: " + deep);
    EXPECT_EQ(error_of("run: " + repeated("{a: ", depth) + repeated("}", depth)), "c.yaml:1:130: " + deep);
    EXPECT_EQ(error_of("run:\n " + repeated("- ", depth) + "a\n"), "c.yaml:2:64: " + deep);
    EXPECT_EQ(error_of("run:\n " + repeated("? ", depth) + "a\n"),
              "c.yaml:2:4: a key must be a plain word, found a map; is a bracket not closed?");
    std::string stairs;
    for (size_t i = 0; i < depth; ++i) stairs += std::string(i, ' ') + "a:\n";
    EXPECT_EQ(error_of(stairs + std::string(depth, ' ') + "b: 1\n"), "c.yaml:33:33: " + deep);
  }
  for (const size_t depth : {5000, 100'000}) {
    EXPECT_EQ(error_of("run: " + repeated("[", depth)), "c.yaml:1:1006: brackets are nested too deep");
    EXPECT_EQ(error_of("run: " + repeated("{", depth)), "c.yaml:1:1006: brackets are nested too deep");
    EXPECT_EQ(error_of("run:\n" + repeated("- ", depth) + "a\n"), "c.yaml:2:63: " + deep);
  }
  // As deep as allowed parses, and is refused for what it is.
  EXPECT_EQ(error_of("run: " + repeated("[", 31) + repeated("]", 31)),
            "c.yaml:1:6: key 'run' needs a map of keys, found a list");
  // Brackets in texts and comments are no nesting.
  EXPECT_EQ(error_of("run: {dir: \"" + repeated("[", 500) + "\"}  # " + repeated("{", 400)), "");
}

TEST(Malformed, SizesAreBounded) {
  EXPECT_EQ(error_of("run: {dir: " + repeated("a", 1 << 20) + "}"),
            "c.yaml: the text has 1048588 bytes; a configuration has at most 1048576");
  EXPECT_EQ(error_of("moe: {layer_freq: [" + repeated("1,", 30'000) + "1]}"),
            "c.yaml:1:40010: more than 20000 values; name many files by a glob");
  EXPECT_TRUE(is_refused("moe: {layer_freq: [" + repeated("1,", 15'000) + "1]}"));
  EXPECT_FALSE(is_refused("run: {dir: " + repeated("a", 100'000) + "}"));
  EXPECT_FALSE(is_refused("run: {}\n" + repeated("# a comment\n", 80'000)));
}

// Known traps of yaml-cpp: endless loops, stack overflows and empty documents without end in some version.
TEST(Malformed, TrapsOfTheParser) {
  for (const std::string text : {"[:",
                                 "{:",
                                 "[:]",
                                 "{:]",
                                 "{:}",
                                 "[[:",
                                 "{!\xc3\x9b:",
                                 "{# ke\ny{:",
                                 "> !2\n",
                                 "<< : [:]o, *a]",
                                 "!\n: |\nb\n>\n|\n  !\n>",
                                 "ke\n[\n",
                                 "o- 1\n- trueot:\n  ch\ni\n",
                                 "{a: 1, [2 b:, 3}",
                                 "root:\n  c]h:di     |-\n a  ) - b\n",
                                 "---\n...\n---\n",
                                 "%YAML 9.9\n---\na: 1",
                                 "%YAML\n",
                                 "%TAG ! x\n%TAG ! y\n--- a",
                                 "? ? ? ?",
                                 ": : :",
                                 "- - -",
                                 "&",
                                 "*",
                                 "!",
                                 "|",
                                 ">",
                                 "@",
                                 "`",
                                 "%",
                                 "\"",
                                 "'",
                                 "{",
                                 "}",
                                 "[",
                                 "]",
                                 ",",
                                 "a: |9999999999\n b",
                                 "a: >-+1\n",
                                 "\"\\",
                                 "\"\\x",
                                 "\"\\u12",
                                 "\"\\Uffffffff\"",
                                 "a:\n  \"x\nb: y",
                                 "- macro: x\n  c:\n    (a in (\"b\",\n    \"-c d\"\n    )  )  \n    )"}) {
    EXPECT_TRUE(is_refused(text)) << text;
  }
}

TEST(Malformed, CutAtEveryByte) {
  size_t refused = 0;
  for (size_t length = 0; length < kSample.size(); ++length) {
    refused += is_refused(kSample.substr(0, length)) ? 1 : 0;
  }
  EXPECT_GT(refused, kSample.size() / 2);
  const std::string dump = dump_config(parse(kSample));
  for (size_t length = 0; length < dump.size(); length += 3) {
    is_refused(dump.substr(0, length));
  }
}

TEST(Malformed, FlippedBits) {
  size_t refused = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    std::string text = i % 2 == 0 ? kSample : dump_config(parse(kSample));
    for (uint64_t flip = 0; flip <= i % 3; ++flip) {
      const uint64_t word = random_word(7, RandomPurpose::kSampling, {i, flip});
      text[word % text.size()] ^= static_cast<char>(1U << ((word >> 32) % 8));
    }
    refused += is_refused(text) ? 1 : 0;
  }
  EXPECT_GT(refused, 500U);
}

TEST(Malformed, MovedAndDoubledPieces) {
  static const std::string kPieces = "[]{}:,-?#&*!|>'\"%@`\n ~0aé\t";
  size_t refused = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    const uint64_t word = random_word(8, RandomPurpose::kSampling, {i});
    std::string text = kSample;
    const size_t at = word % text.size();
    switch ((word >> 20) % 3) {
      case 0:
        text.insert(at, kPieces.substr((word >> 32) % kPieces.size(), 1 + (word >> 50) % 3));
        break;
      case 1:
        text.erase(at, 1 + (word >> 40) % 20);
        break;
      default:
        text.insert((word >> 32) % text.size(), text.substr(at, (word >> 50) % 60));
    }
    refused += is_refused(text) ? 1 : 0;
  }
  EXPECT_GT(refused, 1000U);
}

TEST(Malformed, WrongTypesForEveryKey) {
  Config config = config_with_every_section();
  int tried = 0;
  for (const Field& section : fields_of(config)) {
    for (const std::string wrong : {"[[]]", "[{}]", "5", "'x'", "!!map {}", "{zzz: 1}"}) {
      EXPECT_TRUE(is_refused(section.key + ": " + wrong)) << section.key << ": " << wrong;
    }
    const auto* plain = std::get_if<SectionValue>(&section.value);
    const auto* optional = std::get_if<OptionalSectionValue>(&section.value);
    for (const Field& field : plain != nullptr ? plain->fields : optional->fields()) {
      for (const std::string wrong : {"[[]]", "{zzz: 1}", "[{a: b}]", "{? [] : 1}", "[.nan]", "{}x"}) {
        ++tried;
        EXPECT_TRUE(is_refused(section.key + ": {" + field.key + ": " + wrong + "}")) << field.key << ": " << wrong;
      }
      const bool number =
          std::holds_alternative<IntegerValue>(field.value) || std::holds_alternative<RealValue>(field.value);
      for (const std::string wrong :
           {".nan", ".inf", "-1", "1e400", "''", "99999999999999999999", "0x1", "yes", "1:30"}) {
        if (number) {
          ++tried;
          EXPECT_TRUE(is_refused(section.key + ": {" + field.key + ": " + wrong + "}")) << field.key << ": " << wrong;
        }
      }
    }
  }
  EXPECT_GT(tried, 500);
}

TEST(Malformed, OverridesToo) {
  for (uint64_t i = 0; i < 1000; ++i) {
    std::string text = "data.sources.0.files=[\"/a/*.txt\", b]";
    const uint64_t word = random_word(9, RandomPurpose::kSampling, {i});
    text[word % text.size()] ^= static_cast<char>(1U << ((word >> 32) % 8));
    const std::string message = error_of(kSample, {text.substr(0, 1 + (word >> 40) % text.size())});
    EXPECT_TRUE(message.empty() || message.starts_with("override '")) << message;
  }
}

// Reads the texts one after another in a child process. Returns the first text that did not end in a ConfigError or
// after which the process had grown by more than `most_mebibytes`, its size when all went well, its number otherwise.
size_t first_bad_text(const std::vector<std::string>& texts, long most_mebibytes) {
  int channel[2];
  if (pipe(channel) != 0) return 0;
  const pid_t child = fork();
  if (child == 0) {
    rusage before{};
    getrusage(RUSAGE_SELF, &before);
    for (size_t i = 0; i <= texts.size(); ++i) {
      // The number of the text being read goes out first, so that a crash is attributed too.
      if (write(channel[1], &i, sizeof i) != sizeof i || i == texts.size()) break;
      rusage after{};
      const bool refused = !error_of(texts[i]).empty();
      getrusage(RUSAGE_SELF, &after);
      if (!refused || (after.ru_maxrss - before.ru_maxrss) / 1024 > most_mebibytes) break;
    }
    _exit(0);
  }
  close(channel[1]);
  size_t reached = 0;
  while (read(channel[0], &reached, sizeof reached) == sizeof reached) {
  }
  close(channel[0]);
  waitpid(child, nullptr, 0);
  return reached;
}

// Nine lists of nine references to the list before: 9^9 words if it were expanded.
std::string alias_bomb() {
  std::string text = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    text += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 9; ++i) text += (i == 0 ? "*" : ", *") + std::string(1, static_cast<char>(c - 1));
    text += "]\n";
  }
  return text;
}

TEST(Malformed, BombsTakeBoundedMemory) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr long kMost = 1000;  // freed memory is kept back
#else
  constexpr long kMost = 100;
#endif
  const size_t most = size_t{1} << 20;
  std::vector<std::string> bombs = {alias_bomb(), "x: &x [*x]\n"};
  for (const std::string unit :
       {"[",    "{",     "[]",    "{}",         "[]{}",   "[a,",   "[a: ", "{a: ",   "- ",   "-\n", "? ",  ": ",
        "a: ",  "a:\n",  "?\n",   "a\n",        "\"a\" ", "'a'",   "[\n",  "{\n",    "[[],", "!a ", "&a ", "*a ",
        "*a, ", "---\n", "...\n", "%TAG ! a\n", ",",      "- a\n", "a,",   "\"\\\n", "|\n",  "é",   "]",   "[]["}) {
    for (const std::string before : {"", "k: ["}) {
      bombs.push_back(before + repeated(unit, (most - before.size()) / unit.size()));
    }
  }
  std::string wide;
  for (int i = 0; wide.size() + 16 < most; ++i) wide += "k" + std::to_string(i) + ": 1\n";
  bombs.push_back(wide);
  const size_t bad = first_bad_text(bombs, kMost);
  EXPECT_EQ(bad, bombs.size()) << bombs[std::min(bad, bombs.size() - 1)].substr(0, 20);
  EXPECT_EQ(error_of(alias_bomb()),
            "c.yaml:1:4: YAML anchors are not supported; build on another file with 'extends:'");
}

}  // namespace
}  // namespace switchyard::malformed_test
