// What Unicode says of a character, as the `tokenizers` package has it. Private to data/.
#pragma once

#include <cstdint>

namespace switchyard {

bool is_white_space(uint32_t code_point);      // property White_Space
bool is_numeric(uint32_t code_point);          // categories Nd, Nl, No
bool is_punctuation(uint32_t code_point);      // categories P*, and ASCII's symbols
bool is_mark(uint32_t code_point);             // categories M*
bool is_nonspacing_mark(uint32_t code_point);  // category Mn
bool is_other(uint32_t code_point);            // categories C* but Cn, which is: not assigned
bool is_word_character(uint32_t code_point);   // of a regular expression's \w (UTS 18, annex C)
bool is_chinese(uint32_t code_point);          // the blocks of ideographs that BERT sets apart

}  // namespace switchyard
