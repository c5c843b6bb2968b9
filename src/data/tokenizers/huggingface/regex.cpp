#include "data/tokenizers/huggingface/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "base/errors.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/tokenizers/huggingface/unicode_versions.h"

namespace switchyard {
namespace {

constexpr size_t kLongestPattern = 16384;
constexpr uint32_t kStepsOfAMatch = 1'000'000;  // and those for every byte of the text
constexpr uint32_t kStepsOfAByte = 64;
constexpr uint32_t kHeapKibibytes = 64 * 1024;

template <auto release>
struct Releaser {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};
using CompileContext = std::unique_ptr<pcre2_compile_context, Releaser<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Releaser<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Releaser<pcre2_match_data_free>>;

std::string reason_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

Regex::Regex(std::string_view pattern, const std::string& where) : where_(where) {
  if (pattern.size() > kLongestPattern) {
    throw DataError(where + ": a regular expression of " + std::to_string(pattern.size()) + " bytes; at most " +
                    std::to_string(kLongestPattern) + " are read");
  }
  const std::string text = pcre2_syntax(pattern, where);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  size_t place = 0;
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), kOptions, &error, &place, context.get());
  if (code == nullptr) {
    throw DataError(where + ": " + in_quotes(pattern) + " is no regular expression that is known here (" +
                    reason_of(error) + ")");
  }
  code_.reset(code, pcre2_code_free);
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it can't, matching is slower
}

void Regex::find(std::string_view text, std::vector<Section>& sections) const {
  sections.clear();
  thread_local std::string older;  // as long, so that a match is where it would be
  if (replace_new_characters(text, older)) text = older;
  thread_local const MatchContext context(pcre2_match_context_create(nullptr));
  thread_local const MatchData data(pcre2_match_data_create(1, nullptr));
  const size_t length = std::min(text.size(), size_t{1} << 24);
  pcre2_set_match_limit(context.get(), kStepsOfAMatch + kStepsOfAByte * static_cast<uint32_t>(length));
  pcre2_set_heap_limit(context.get(), kHeapKibibytes);
  const size_t* bounds = pcre2_get_ovector_pointer(data.get());
  const auto match = [&](size_t from, uint32_t options) {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       options | PCRE2_NO_UTF_CHECK, data.get(), context.get());
  };
  size_t done = 0;
  for (size_t from = 0; from <= text.size() && !text.empty();) {
    int found = match(from, 0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(from, PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      throw DataError(where_ + ": the regular expression can't be matched with a text of " +
                      std::to_string(text.size()) + " bytes (" + reason_of(found) + ")");
    }
    const bool again = bounds[0] == bounds[1] && !sections.empty() && bounds[1] == done;
    if (again) {  // nothing, right after the last match
      if (from == text.size()) break;
      from += static_cast<size_t>(read_utf8(text, from).length);
      continue;
    }
    if (done < bounds[0]) sections.push_back({done, bounds[0], false});
    sections.push_back({bounds[0], bounds[1], true});
    done = from = bounds[1];
  }
  if (done < text.size()) sections.push_back({done, text.size(), false});
}

}  // namespace switchyard
