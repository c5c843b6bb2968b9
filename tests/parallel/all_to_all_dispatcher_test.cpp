#include "parallel/all_to_all_dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/errors.h"

namespace switchyard {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(RequireRoom, WhatFitsPasses) {
  require_room(/*arriving=*/1000, /*expected=*/10, /*row_bytes=*/100, /*free_bytes=*/100000);
  require_room(0, 10, 100, 0);
  require_room(1000, 10, 100, std::numeric_limits<double>::infinity());
}

TEST(RequireRoom, WhatDoesNotFitSaysHowMuchAndWhatToChange) {
  try {
    require_room(/*arriving=*/40000, /*expected=*/10000, /*row_bytes=*/1 << 20,
                 /*free_bytes=*/double(int64_t{1} << 33));
    FAIL();
  } catch (const DistributedError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("40,000 rows"), HasSubstr("10,000"), HasSubstr("39.1 GiB"), HasSubstr("8.0 GiB"),
                      HasSubstr("moe.capacity_factor"), HasSubstr("training.micro_batch_size")));
  }
}

}  // namespace
}  // namespace switchyard
