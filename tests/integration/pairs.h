// What the tests of random models share: which models they take.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/one_thread.h"
#include "tests/support/random_models.h"

namespace switchyard::test {

// --first and --count of the command line; without them every router once.
inline int64_t first_model = 0;
inline int64_t num_models = static_cast<int64_t>(router_schemes().size());

// Tests that count what they could compare expect a share of it where there are enough models.
inline void expect_share(int64_t found, double share) {
  EXPECT_TRUE(num_models < 20 || found >= share * static_cast<double>(num_models)) << found << " of " << num_models;
}

// Model `number`, computed in some way: with further keys.
inline Config config_of(int64_t number, const std::vector<std::string>& way = {}) {
  std::vector<std::string> keys = random_model(static_cast<uint64_t>(number));
  keys.insert(keys.end(), way.begin(), way.end());
  return tiny_config(keys);
}
inline const std::vector<std::string> kOwnType = {};
inline const std::vector<std::string> kFloat64 = {"training.precision=fp64"};

// Calls action(number) for every model.
template <typename Action>
void for_each_model(const Action& action) {
  const OneThread one_thread;
  for (int64_t number = first_model; number < first_model + num_models; ++number) {
    std::string keys;
    for (const std::string& key : random_model(static_cast<uint64_t>(number))) keys += " " + key;
    SCOPED_TRACE("model " + std::to_string(number) + ":" + keys);
    action(number);
  }
}

}  // namespace switchyard::test
