// From files to documents. Private to data/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace switchyard {

inline constexpr uint64_t kMaxTextBytes = uint64_t{1} << 32;

// The text inside a file's `content`: decompressed when `path` ends in .gz or .dz, in any case (dictzip is gzip).
// Throws DataError for broken compression or more than `max_bytes` of text.
std::string text_of_file(std::string content, const std::filesystem::path& path, uint64_t max_bytes = kMaxTextBytes);

// The documents inside one file's text, without the empty lines around them; pieces of nothing else are left out.
// kFile: all of it, unchanged. kEntry: a document begins at each line that starts in column 0 (with anything but a
// space or tab) and stands first or after an empty line, as entries do in dict.org databases: in Debian's dict-gcide
// and dict-foldoc this finds 138,311 documents, 99.9 % of them beginning where the .index files say that an entry does.
std::vector<std::string_view> documents_of(std::string_view text, DocumentRule rule);

}  // namespace switchyard
