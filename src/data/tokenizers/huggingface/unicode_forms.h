// Unicode's normalisation forms (UAX 15). Private to data/.
#pragma once

#include <string>

namespace switchyard {

struct UnicodeForm {
  bool compatible = false;  // K: also what merely looks alike
  bool composed = false;    // C: what can be one character is
};

// `text` is UTF-8. Takes time that grows with its length, however many marks follow each other.
void normalize_unicode(std::string& text, const UnicodeForm& form);

// Every character's lower case by itself, as Unicode's SpecialCasing has it without context.
void lower_case(std::string& text);

}  // namespace switchyard
