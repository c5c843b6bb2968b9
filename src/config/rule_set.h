// What the rules of all sections share: where a problem stands, and when a rule is left out. For rules*.cpp only.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "config/problems.h"
#include "config/reader.h"

namespace switchyard {

class RuleSet {
 public:
  RuleSet(const Config& config, const Readings& readings, const Place& top, Problems& problems)
      : c_(config), readings_(readings), top_(top), problems_(problems) {}

 protected:
  // Adds a problem unless the rule holds. `keys` are all the keys that the rule looks at; the first one that is written
  // is where the problem stands, and the first one of all is what the message is about. Where one of them has a problem
  // already, the rule is left out.
  void require(bool holds, const std::vector<std::string>& keys, const std::string& what);
  // A key is bad with everything that contains it.
  bool is_bad(std::string key) const;
  // A list of layers fits the model and leaves some layer. `what`: "layer with experts". `otherwise`: what to write to
  // have none.
  void check_layer_list(const std::string& key, const std::vector<int64_t>& list, const std::string& what,
                        const std::string& otherwise);
  static std::string number(int64_t value) { return std::to_string(value); }

  const Config& c_;

 private:
  Place place_of(const std::vector<std::string>& keys) const;

  const Readings& readings_;
  const Place& top_;
  Problems& problems_;
};

// The section moe; the configuration has one.
void check_moe_rules(const RuleSet& rules);
// Products of sizes that whoever computes with them in 64 bits must be able to rely on.
void check_size_rules(const RuleSet& rules);

}  // namespace switchyard
