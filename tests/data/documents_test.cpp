#include "data/documents.h"

#include <zlib.h>

#include "data/glob.h"
#include "data/tokenizer_sample.h"
#include "tests/data/helpers.h"

namespace switchyard {
namespace {

using test::expect_data_error;
using test::write_text;
using testing::ElementsAre;
using testing::IsEmpty;

std::string gzip(const test::TemporaryFolder& folder, const std::string& text) {
  const std::string path = (folder / "packed").string();
  gzFile file = ::gzopen(path.c_str(), "wb");
  EXPECT_EQ(::gzwrite(file, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  ::gzclose(file);
  return test::slurp(path);
}

class GlobTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a.txt", "b.txt", "c.md", ".hidden.txt", "sub/d.txt", "sub/deep/e.txt", ".dot/f.txt"}) {
      write_text(folder_ / name, "x");
    }
  }
  std::vector<std::string> expand(const std::string& pattern) {
    std::vector<std::string> names;
    for (const auto& path : expand_glob((folder_ / pattern).string())) {
      names.push_back(path.lexically_relative(folder_.path()).string());
    }
    return names;
  }
  test::TemporaryFolder folder_;
};

TEST_F(GlobTest, MatchesAsTheShellDoes) {
  EXPECT_THAT(expand("*.txt"), ElementsAre("a.txt", "b.txt"));
  EXPECT_THAT(expand("?.md"), ElementsAre("c.md"));
  EXPECT_THAT(expand("[!a].txt"), ElementsAre("b.txt"));
  EXPECT_THAT(expand("*/d.txt"), ElementsAre("sub/d.txt"));
  EXPECT_THAT(expand(".*.txt"), ElementsAre(".hidden.txt"));
  EXPECT_THAT(expand("**/*.txt"), ElementsAre("a.txt", "b.txt", "sub/d.txt", "sub/deep/e.txt"));
  EXPECT_THAT(expand("sub/**/e.txt"), ElementsAre("sub/deep/e.txt"));
  EXPECT_THAT(expand(".dot/**/*.txt"), ElementsAre(".dot/f.txt"));
  EXPECT_THAT(expand("**/**/*.md"), ElementsAre("c.md"));
  EXPECT_THAT(expand("a.txt"), ElementsAre("a.txt"));
  EXPECT_THAT(expand("sub/../a.txt"), ElementsAre("a.txt"));
  EXPECT_THAT(expand("sub"), IsEmpty());
  EXPECT_THAT(expand("*.none"), IsEmpty());
  EXPECT_THAT(expand("none/**/*"), IsEmpty());
  EXPECT_THAT(expand("a.txt/*"), IsEmpty());
}

TEST_F(GlobTest, NamesWithBracketsAreFoundAsTheyStand) {
  for (const char* name : {"v[1].txt", "v1.txt", "set [a]/g.txt"}) write_text(folder_ / name, "x");
  EXPECT_THAT(expand("v[1].txt"), ElementsAre("v1.txt", "v[1].txt"));
  EXPECT_THAT(expand("set [a]/*.txt"), ElementsAre("set [a]/g.txt"));
  const std::string folder = (folder_ / "sub").string();
  expect_data_error([&] { expand_globs({folder}, "books"); }, {folder + " is a folder", folder + "/**/*.txt"});
}

TEST_F(GlobTest, LoopsOfSymbolicLinksEnd) {
  std::filesystem::create_directory_symlink(folder_.path(), folder_ / "sub/loop");
  std::filesystem::create_symlink(folder_ / "self", folder_ / "self");
  EXPECT_THAT(expand("**/*.txt"), ElementsAre("a.txt", "b.txt", "sub/d.txt", "sub/deep/e.txt"));
  EXPECT_THAT(expand("sub/loop/*.md"), ElementsAre("sub/loop/c.md"));
}

TEST_F(GlobTest, EveryFileOnce) {
  std::filesystem::create_symlink(folder_ / "a.txt", folder_ / "z.txt");
  const auto files = expand_globs({(folder_ / "*.txt").string(), (folder_ / "**/a.txt").string()}, "s");
  EXPECT_THAT(files, ElementsAre(folder_ / "a.txt", folder_ / "b.txt"));
  const std::string none = (folder_ / "*.none").string();
  expect_data_error([&] { expand_globs({(folder_ / "a.txt").string(), none}, "books"); }, {"'books'", none});
}

TEST(TextOfFile, DecompressesByExtension) {
  const test::TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 300000; ++i) text += std::to_string(i) + "\n";  // more than one piece of a MiB
  const std::string packed = gzip(folder, text);
  EXPECT_EQ(text_of_file(packed, "x.gz"), text);
  EXPECT_EQ(text_of_file(packed, "x.dict.dz"), text);
  EXPECT_EQ(text_of_file(packed, "x.txt"), packed);
  EXPECT_EQ(text_of_file(gzip(folder, "one") + gzip(folder, "two"), "x.gz"), "onetwo");
  EXPECT_EQ(text_of_file(gzip(folder, ""), "x.gz"), "");
  EXPECT_EQ(text_of_file("", "x.gz"), "");
}

TEST(TextOfFile, BrokenOrHugeCompressionIsADataError) {
  const test::TemporaryFolder folder;
  const std::string packed = gzip(folder, std::string(100000, 'a'));
  expect_data_error([&] { text_of_file(packed, "x.gz", 99999); }, {"x.gz", "99999"});
  EXPECT_EQ(text_of_file(packed, "x.gz", 100000).size(), 100000u);
  EXPECT_EQ(text_of_file(packed, "X.TXT.GZ", 100000).size(), 100000u);
  expect_data_error([&] { text_of_file("plain text", "x.gz"); }, {"x.gz"});
  expect_data_error([&] { text_of_file(packed + "trailing", "x.gz"); }, {"x.gz"});
  for (size_t size = 1; size < packed.size(); ++size) {
    expect_data_error([&] { text_of_file(packed.substr(0, size), "x.gz"); }, {"x.gz"});
  }
  std::string flipped = packed;
  flipped[packed.size() - 6] ^= 1;  // the CRC
  expect_data_error([&] { text_of_file(flipped, "x.gz"); }, {"x.gz"});
}

TEST(DocumentsOf, AFileIsOneDocument) {
  EXPECT_THAT(documents_of("\n\na\n\nb", DocumentRule::kFile), ElementsAre("\n\na\n\nb"));
  EXPECT_THAT(documents_of("", DocumentRule::kFile), IsEmpty());
}

TEST(DocumentsOf, EntriesBeginInColumnZeroAfterAnEmptyLine) {
  const std::string text =
      "\n\nfirst\n   its text\n\n   more of it\n\n\nsecond\nstill second\n   \n(not third: that line had spaces)\n\n"
      "\tstill second\n\nthird";
  EXPECT_THAT(documents_of(text, DocumentRule::kEntry),
              ElementsAre("first\n   its text\n\n   more of it\n",
                          "second\nstill second\n   \n(not third: that line had spaces)\n\n\tstill second\n", "third"));
  EXPECT_THAT(documents_of("   indented\n\nx", DocumentRule::kEntry), ElementsAre("   indented\n", "x"));
  EXPECT_THAT(documents_of("one\n\n", DocumentRule::kEntry), ElementsAre("one\n"));
  EXPECT_THAT(documents_of("\n\n\n", DocumentRule::kEntry), IsEmpty());
}

TEST(TokenizerSample, SharesEquallyAndEvenly) {
  const std::string big(100000, 'b');
  const std::string small(1000, 's');
  std::vector<std::vector<std::string_view>> domains(3);
  for (size_t i = 0; i < big.size(); i += 100) domains[0].push_back(std::string_view(big).substr(i, 100));
  domains[1].push_back(small);
  for (size_t i = 0; i < big.size(); i += 1000) domains[2].push_back(std::string_view(big).substr(i, 1000));
  const auto sample = tokenizer_sample(domains, 21000);
  size_t bytes = 0;
  size_t small_bytes = 0;
  size_t late_bytes = 0;  // from the second half of the first domain
  for (const std::string_view piece : sample) {
    bytes += piece.size();
    if (piece.front() == 's') small_bytes += piece.size();
    if (piece.size() == 100 && piece.data() >= big.data() + 50000) late_bytes += piece.size();
  }
  EXPECT_LE(bytes, 21000u);
  EXPECT_GE(bytes, 20000u);
  EXPECT_EQ(small_bytes, 1000u);
  EXPECT_EQ(late_bytes, 5000u);
}

TEST(TokenizerSample, TakesAllOfALittleText) {
  const std::vector<std::vector<std::string_view>> domains = {{"one\n", "two"}, {"three"}};
  EXPECT_THAT(tokenizer_sample(domains, 1 << 20), ElementsAre("one\n", "two", "three"));
}

}  // namespace
}  // namespace switchyard
