#include "metrics/token_classes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard {
namespace {

// The classes as letters: w, i, n, s, p, o.
std::string classes_of(const std::vector<std::string>& tokens) {
  std::string letters;
  for (const TokenClass kind : classify_tokens(tokens)) letters += token_class_name(kind)[0];
  return letters;
}

TEST(TokenClasses, OfWholeWords) {
  EXPECT_EQ(classes_of({"The", " cat", " sat", ",", "\n", " 42", " ", "times", "."}), "wwwpsnswp");
}

TEST(TokenClasses, IdentifiersByTheirSpelling) {
  EXPECT_EQ(classes_of({"num_experts", " camelCase", " x1", " Word", " ALLCAPS"}), "iiiww");
}

TEST(TokenClasses, IdentifiersByWhatTheyTouch) {
  EXPECT_EQ(classes_of({"std", "::", "move", "(", "x", ")", ".", "size", " ->", "end"}), "ipipwppipi");
  EXPECT_EQ(classes_of({"It", " ended", ".", " Then", " more"}), "wwpww");
}

// Every character is a token, as with the char tokenizer: the run around it decides.
TEST(TokenClasses, CharactersBelongToTheirRun) {
  EXPECT_EQ(classes_of({"a", "_", "b", " ", "c", "a", "t", "3", ".", "1", "4"}), "iiisiiiipnn");
}

TEST(TokenClasses, NumbersTakePointsAndLettersAlong) {
  EXPECT_EQ(classes_of({"3", ".", "1", "4", "e", "5", " ", "0", "x", "f", "f", ".", " "}), "nnnnnnsnnnnps");
}

TEST(TokenClasses, PiecesOfUtf8AndTokensWithoutText) {
  EXPECT_EQ(classes_of({"na", "\xc3", "\xaf", "ve", "", "\n\n", "{"}), "wwwwosp");
  EXPECT_TRUE(classify_tokens({}).empty());
}

}  // namespace
}  // namespace switchyard
