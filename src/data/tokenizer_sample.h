// The text a tokenizer is trained on. Private to data/.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace switchyard {

size_t bytes_of(std::span<const std::string_view> documents);

// At most `max_bytes` of the domains' documents: equal parts of every domain (what a small one leaves goes to the
// others), taken in pieces of whole lines spread evenly over its documents. The domains' weights play no part, so that
// runs with other weights share a tokenizer and their losses can be compared.
std::vector<std::string_view> tokenizer_sample(std::span<const std::vector<std::string_view>> domains,
                                               int64_t max_bytes);

}  // namespace switchyard
