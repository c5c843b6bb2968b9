// What kind of thing a token is, from its spelling and what stands around it.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

enum class TokenClass { kWord, kIdentifier, kNumber, kSpace, kPunctuation, kOther };
constexpr int kNumTokenClasses = 6;
const char* token_class_name(TokenClass kind);  // "word", "identifier", ...

// The classes of neighbouring tokens from their texts, which together are the text. The text is cut into runs:
//   identifier   letters, digits, _ and bytes from 0x80 on, not beginning with a digit, that hold a digit, an
//                underscore or a capital after a small letter, or touch what only names touch: :: . or -> directly
//                before, :: or ( directly after
//   word         the same otherwise
//   number       a digit, and the letters, digits, _ and (before a digit) points that follow
//   space        blanks, tabs, line ends
//   punctuation  every other character
// A token has the class of its first character that is no space, or kSpace; kOther where it has no text.
std::vector<TokenClass> classify_tokens(const std::vector<std::string>& tokens);

}  // namespace switchyard
