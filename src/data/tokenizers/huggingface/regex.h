// Regular expressions as tokenizer.json has them: in Oniguruma's Ruby syntax, over UTF-8, with Unicode's properties.
// Private to data/.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizers/huggingface/text_pieces.h"

struct pcre2_real_code_8;  // PCRE2's compiled expression

namespace switchyard {

// Compiled with PCRE2. Any thread may use it at any time.
class Regex {
 public:
  // Throws DataError starting with `where` for what is no expression, or has a part that isn't translated.
  Regex(std::string_view pattern, const std::string& where);

  // The matches in `text`, which is UTF-8, one after the other, and what is between them. Throws DataError where
  // looking for one takes more steps than any useful expression.
  void find(std::string_view text, std::vector<Section>& sections) const;

 private:
  std::shared_ptr<const pcre2_real_code_8> code_;
  std::string where_;
};

// What PCRE2 has to be told for the same expression (options UTF, UCP, MULTILINE). Throws DataError.
std::string pcre2_syntax(std::string_view pattern, const std::string& where);

}  // namespace switchyard
