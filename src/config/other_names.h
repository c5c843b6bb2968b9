// What other trainers call our keys.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

struct OtherNames {
  const char* key;  // ours, dotted
  std::vector<std::string_view> names;
};

const std::vector<OtherNames>& other_names();

// The dotted key that `word` stands for elsewhere, or "".
std::string key_called(std::string_view word);

}  // namespace switchyard
