// Tests of what runs on CUDA. Where there is no GPU they say so and end.
#pragma once

#include <gtest/gtest.h>
#include <torch/cuda.h>

#include "ops/torch.h"

namespace switchyard::test {

// Ends the test, as skipped, where the device can't be used.
#define SWITCHYARD_NEEDS(device)                                    \
  do {                                                              \
    if ((device) == torch::kCUDA && !torch::cuda::is_available()) { \
      GTEST_SKIP() << "no CUDA device, or a build without CUDA";    \
    }                                                               \
  } while (false)

inline std::string device_name(const ::testing::TestParamInfo<torch::DeviceType>& info) {
  return info.param == torch::kCUDA ? "Cuda" : "Loops";
}

}  // namespace switchyard::test
